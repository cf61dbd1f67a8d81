"""Colours: one place for all of them, told apart by colour-blind eyes too (Okabe and Ito's set)."""

__all__ = ["ALTERNATIVE", "DOUBTFUL", "MAIN", "MERGE", "SOURCE", "SPLIT", "TARGET", "confidence_colour", "rgb"]

SOURCE = "#E69F00"
TARGET = "#56B4E9"
ALTERNATIVE = "#CC79A7"
DOUBTFUL = "#F0E442"
SPLIT, MERGE, MAIN = "#D55E00", "#0072B2", "#009E73"

_UNSURE, _SURE = (213, 94, 0), (0, 114, 178)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue from 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def confidence_colour(confidence: float) -> tuple[int, int, int]:
    """Return a colour from vermilion (0) to blue (1), for the bars in the list."""
    share = min(1.0, max(0.0, confidence))
    return tuple(round(a + (b - a) * share) for a, b in zip(_UNSURE, _SURE, strict=True))
