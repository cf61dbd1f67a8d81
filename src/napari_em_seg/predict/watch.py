"""Watch: who looks on while a network learns, and says when it has learned for long enough."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNWATCHED", "Limit", "Picture", "Watch"]

_SIDE = 384  # pixels of a picture


@dataclass(frozen=True)
class Limit:
    """How long a run may take, and how often it is validated in that time; the rate falls with the time.

    Parameters
    ----------
    seconds
        Of training and validating, all parts of a run that was paused together.
    validations
        At equal distances, beside those after every so many steps.
    """

    seconds: float
    validations: int = 8


@dataclass(frozen=True, eq=False)
class Picture:
    """A part of a slice kept aside: gray levels, what a network makes of it (0 to 1), and the truth."""

    image: NDArray[Any]
    predicted: NDArray[np.float32]
    truth: NDArray[Any]

    @classmethod
    def middle(cls, image: NDArray[Any], predicted: NDArray[np.float32], truth: NDArray[Any]) -> "Picture":
        """Return the middle of a slice, of 384×384 pixels at most."""
        parts = tuple(slice(max(0, (n - _SIDE) // 2), max(0, (n - _SIDE) // 2) + _SIDE) for n in image.shape)
        return cls(image[parts], predicted[parts], truth[parts])


@dataclass(frozen=True)
class Watch:
    """What is told while a network learns, from the thread that it learns in.

    Parameters
    ----------
    on_step
        Called with the number of steps done and the loss.
    on_picture
        Called with a picture at each validation.
    is_enough
        Asked after every step: once it says yes, the run ends as if its steps were done, and is kept.
    limit
        None: it takes as long as its steps take.
    """

    on_step: Callable[[int, float], object] | None = None
    on_picture: Callable[[Picture], object] | None = None
    is_enough: Callable[[], bool] = lambda: False
    limit: Limit | None = None


UNWATCHED = Watch()
