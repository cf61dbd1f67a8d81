"""The dock "Start"."""
