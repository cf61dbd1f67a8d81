"""Dock "Review links": leads through the doubtful links, the worst first."""
