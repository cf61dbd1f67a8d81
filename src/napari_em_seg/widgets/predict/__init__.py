"""The dock "Predict": boundary maps and affinities."""
