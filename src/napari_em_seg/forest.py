"""Forest: decision trees as flat arrays, with the names of their features, to be saved without pickle."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from napari_em_seg.errors import DataError

__all__ = ["Forest", "fit_forest", "forest_of"]

Rows = NDArray[np.float32]

_TYPES: dict[str, tuple[type, int]] = {
    "roots": (np.int32, 1), "feature": (np.int16, 1), "threshold": (np.float32, 1), "children": (np.int32, 2),
    "value": (np.float32, 1),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Forest:
    r"""A probability, as the mean of the leaves that the features of a sample fall into.

    .. math:: P(x) = \frac{1}{T} \sum_{t=1}^{T} v_{\ell_t(x)}

    where :math:`\ell_t(x)` is the leaf of tree t: from a node to its left child if :math:`x_f \le \theta`, else
    to its right one.

    Attributes
    ----------
    names
        Of the features, in order.
    roots
        The first node of each tree.
    feature
        Which feature each node asks for; −1 for leaves.
    threshold
        What it is compared with.
    children
        Left and right child (n, 2), always later nodes; 0 for leaves.
    value
        Share of true samples among those that were trained on and reached the node.
    card
        How it was made, plain JSON.
    """

    names: tuple[str, ...]
    roots: NDArray[np.signedinteger]
    feature: NDArray[np.signedinteger]
    threshold: NDArray[np.floating]
    children: NDArray[np.signedinteger]
    value: NDArray[np.floating]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise DataError(f"The forest {problem}", "trees whose nodes lead to later ones, by known features",
                            "Train it again")  # fmt: skip

    def probability(self, rows: Rows) -> NDArray[np.float64]:
        """Return the probability of each row of features, in a few threads."""
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(self.names):
            raise DataError(f"The features have the shape {rows.shape}", f"rows of {len(self.names)} features",
                            "Compute them as those that it was trained on")  # fmt: skip
        found = np.empty(len(rows))
        n = max(1, min(8, os.cpu_count() or 1))
        limits = np.linspace(0, len(rows), 4 * n + 1).astype(int)

        def part(i: int) -> None:
            here = slice(limits[i], limits[i + 1])
            _score(rows[here], self.roots, self.feature, self.threshold, self.children, self.value, found[here])

        with ThreadPoolExecutor(n) as pool:
            list(pool.map(part, range(4 * n)))
        return found

    @staticmethod
    def types() -> dict[str, tuple[type, int]]:
        """Return the type and the number of axes of each array, by name."""
        return dict(_TYPES)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        return {name: getattr(self, name) for name in _TYPES}


def fit_forest(
    names: Sequence[str],
    rows: Rows,
    is_true: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64] | None = None,
    seed: int = 0,
    n_trees: int = 100,
    depth: int = 20,
    least: int = 3,
    per_node: int | None = None,
    card: Mapping[str, Any] | None = None,
) -> Forest:
    """Train a random forest.

    Parameters
    ----------
    names
        Of the features.
    rows, is_true, weights
        Samples (n, f), what they are, and how much each of them counts (all alike, if not given).
    seed
        The same seed and samples give the same forest.
    n_trees, depth
        Of the forest.
    least
        Fewest samples in a leaf.
    per_node
        Features that each node chooses from; the root of their number if not given.
    card
        What else to write down, plain JSON.
    """
    # loads for a second, and only training needs it
    from sklearn.ensemble import RandomForestClassifier

    if len(rows) != len(is_true) or not np.any(is_true) or np.all(is_true):
        raise DataError(f"Of {len(rows)} samples {int(np.sum(is_true))} are right",
                        "some that are right and some that are not", "Give more samples")  # fmt: skip
    classifier = RandomForestClassifier(
        n_trees, max_depth=depth, min_samples_leaf=least, max_features=per_node or "sqrt", random_state=seed,
        n_jobs=max(1, min(8, os.cpu_count() or 1)),
    )  # fmt: skip
    classifier.fit(rows, is_true, sample_weight=weights)
    found = forest_of(names, classifier)
    small: dict[str, Any] = {name: array.astype(_TYPES[name][0]) for name, array in found.arrays().items()}
    made = {"seed": seed, "n_samples": len(rows), "n_right": int(is_true.sum())}
    return replace(found, **small, card={**(card or {}), **made})


def forest_of(names: Sequence[str], classifier: Any) -> Forest:
    """Return the trees of a scikit-learn RandomForestClassifier for False and True, on named features."""
    trees = [estimator.tree_ for estimator in classifier.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    column = list(classifier.classes_).index(True)
    children, value = [], []
    for tree, root in zip(trees, roots, strict=True):
        pair = np.stack((tree.children_left, tree.children_right), axis=1)
        children.append(np.where(pair < 0, 0, pair + root))
        counts = tree.value[:, 0, :]
        value.append(counts[:, column] / counts.sum(axis=1))
    feature = np.concatenate([np.where(tree.children_left < 0, -1, tree.feature) for tree in trees])
    return Forest(
        tuple(names), roots.astype(np.int32), feature.astype(np.int32),
        np.concatenate([tree.threshold for tree in trees]), np.concatenate(children).astype(np.int32),
        np.clip(np.concatenate(value), 0.0, 1.0),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _score(
    rows: Rows, roots: NDArray[Any], feature: NDArray[Any], threshold: NDArray[Any], children: NDArray[Any],
    value: NDArray[Any], out: NDArray[Any],
) -> None:  # fmt: skip
    for i in range(len(rows)):
        total = 0.0
        for root in roots:
            node = root
            while feature[node] >= 0:
                node = children[node, 1 if rows[i, feature[node]] > threshold[node] else 0]
            total += value[node]
        out[i] = total / len(roots)


def _problem(forest: Forest) -> str:
    """Say what is wrong with a forest; nothing where it is right. After that, no look-up can go astray."""
    n, nodes = len(forest.feature), np.arange(len(forest.feature))
    if not (len(forest.threshold) == len(forest.value) == n and forest.children.shape == (n, 2)):
        return "has arrays of different lengths"
    if not len(forest.roots) or forest.roots.min() < 0 or forest.roots.max() >= n:
        return "has no trees, or trees that begin nowhere"
    is_inner = forest.feature >= 0
    later = forest.children[is_inner]
    if forest.feature.min() < -1 or forest.feature.max() >= len(forest.names):
        return "asks for features that are not there"
    if (later <= nodes[is_inner, None]).any() or (later >= n).any():
        return "has nodes that lead back, or nowhere"
    if not (np.isfinite(forest.threshold).all() and ((forest.value >= 0) & (forest.value <= 1)).all()):
        return "has thresholds or probabilities that are none"
    return ""
