"""Reconstruct neurons from serial-section electron microscopy, and review the doubtful links worst first."""

__version__ = "0.1.0"
