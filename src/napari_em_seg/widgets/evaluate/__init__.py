"""Dock "Evaluate": a segmentation against the truth, or judged by its looks."""
