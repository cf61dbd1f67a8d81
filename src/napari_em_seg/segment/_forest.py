"""Forest: decision trees as flat arrays, fast enough to score every boundary again after each merge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError, FormatError
from napari_em_seg.io._array_file import damaged, load_arrays, save_arrays
from napari_em_seg.segment import _agglomerate_kernels as kernels
from napari_em_seg.segment.features import FEATURES

__all__ = ["Forest"]

_KIND = "agglomeration forest"
_TYPES: dict[str, tuple[type, int]] = {
    "roots": (np.int32, 1), "feature": (np.int32, 1), "threshold": (np.float64, 1), "children": (np.int32, 2),
    "value": (np.float64, 1),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Forest:
    r"""How probable it is that two regions are one object: the mean of the trees' leaves.

    .. math:: P(x) = \frac{1}{T} \sum_{t=1}^{T} v_{\ell_t(x)}

    where :math:`\ell_t(x)` is the leaf of tree t that the features x fall into: from a node to its left child
    if :math:`x_f \le \theta`, else to its right one.

    Attributes
    ----------
    roots
        The first node of each tree.
    feature
        Which feature each node asks for; −1 for leaves.
    threshold
        What it is compared with.
    children
        Left and right child (n, 2), always later nodes; 0 for leaves.
    value
        Share of pairs that are one object, among those that were trained on and reached the node.
    card
        How it was made, plain JSON: ``features``, ``voxel_size``, ``seed``, and more.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    children: NDArray[np.int32]
    value: NDArray[np.float64]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise DataError(f"The forest {problem}", "trees whose nodes lead to later ones, by known features",
                            "Train it again")  # fmt: skip

    @property
    def trees(self) -> kernels.Trees:
        """The arrays, as the compiled loops take them."""
        return kernels.Trees(self.roots, self.feature, self.threshold, self.children, self.value)

    def probability(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of each row of features."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(FEATURES):
            raise DataError(f"The features have the shape {rows.shape}", f"rows of {len(FEATURES)} features",
                            "Make them with features()")  # fmt: skip
        return np.asarray(kernels.probabilities(rows, self.trees))

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the forest as one file (.npz), whole or not at all."""
        card = {**self.card, "features": list(FEATURES)}
        save_arrays(path, _KIND, {name: getattr(self, name) for name in _TYPES}, card, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> "Forest":
        """Read a forest; a file that is damaged, or is none, is a FormatError."""
        arrays, card = load_arrays(path, _KIND, _TYPES)
        if card.get("features") != list(FEATURES):
            raise FormatError(f"{path} was trained on other features", f"these: {', '.join(FEATURES)}",
                              "Train it again, or use the version of napari-em-seg that wrote it")  # fmt: skip
        try:
            return cls(**arrays, card=card)
        except DataError as error:
            raise damaged(Path(path), _KIND, error.came) from error


def _problem(forest: Forest) -> str:
    """Say what is wrong with a forest; nothing where it is right. After that, no look-up can go astray."""
    n, nodes = len(forest.feature), np.arange(len(forest.feature))
    if not (len(forest.threshold) == len(forest.value) == n and forest.children.shape == (n, 2)):
        return "has arrays of different lengths"
    if not len(forest.roots) or forest.roots.min() < 0 or forest.roots.max() >= n:
        return "has no trees, or trees that begin nowhere"
    is_inner = forest.feature >= 0
    later = forest.children[is_inner]
    if forest.feature.min() < -1 or forest.feature.max() >= len(FEATURES):
        return "asks for features that are not there"
    if (later <= nodes[is_inner, None]).any() or (later >= n).any():
        return "has nodes that lead back, or nowhere"
    if not (np.isfinite(forest.threshold).all() and ((forest.value >= 0) & (forest.value <= 1)).all()):
        return "has thresholds or probabilities that are none"
    return ""
