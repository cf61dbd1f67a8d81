"""Dock "Propagate": seed objects on a slice, watch them being followed, correct, accept."""
