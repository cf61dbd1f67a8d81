"""The dock "Segment": boundaries or affinities to segments, adjusted while one looks."""
