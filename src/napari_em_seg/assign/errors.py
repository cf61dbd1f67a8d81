"""How wrong a solution is: links and sections that are missing or too many, as the paper counts them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.assign import _error_kernels as kernels
from napari_em_seg.assign.assignments import APPEARANCE, DISAPPEARANCE, Assignments
from napari_em_seg.assign.costs import is_at_border
from napari_em_seg.assign.hypotheses import Hypotheses
from napari_em_seg.assign.labelled_sections import RULES, SectionReader, SectionRules, Sections
from napari_em_seg.assign.result import links, used
from napari_em_seg.errors import DataError
from napari_em_seg.volume import ArrayLike, Progress

__all__ = [
    "Comparison",
    "Judgement",
    "SliceErrors",
    "SolutionErrors",
    "compare",
    "slice_errors",
]

Index = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SliceErrors:
    """Errors between slices (inter) and within them (intra), of a result against a truth.

    Attributes
    ----------
    n_sections, n_links
        In the truth.
    intra_fn
        True sections that no section of the result is.
    intra_fp
        Sections of the result that are no true one, and do not lie mostly where nothing is labelled.
    inter_fn
        True links that the result lacks.
    inter_fp
        Links of the result that are not true.
    """

    n_sections: int
    n_links: int
    intra_fn: int
    intra_fp: int
    inter_fn: int
    inter_fp: int

    @property
    def inter(self) -> int:
        """Links that have to be corrected."""
        return self.inter_fn + self.inter_fp

    @property
    def intra(self) -> int:
        """Sections that have to be corrected."""
        return self.intra_fn + self.intra_fp

    @property
    def rates(self) -> dict[str, float]:
        """The four errors as shares of the true sections."""
        names = ("intra_fn", "intra_fp", "inter_fn", "inter_fp")
        return {name: getattr(self, name) / max(self.n_sections, 1) for name in names}


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the truth says of each assignment, chosen or not.

    Attributes
    ----------
    is_wrong
        Whether it makes a link that is not true, or ends an object that goes on.
    is_judged
        Whether the truth says anything: not of ends at the border, nor of regions that it does not label.
    wrong_links
        How many links it makes that are not true.
    wrong_sections
        How many of its targets are no true sections.
    """

    is_wrong: Mask
    is_judged: Mask
    wrong_links: NDArray[np.int8]
    wrong_sections: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class SolutionErrors:
    """Errors of a solution, and the judgement of its assignments; nothing is said of those not chosen."""

    errors: SliceErrors
    judgement: Judgement


@dataclass(frozen=True, eq=False)
class Comparison:
    r"""What regions are in truth, whichever of them a solution uses.

    Sections of the truth are the parts of an object in a slice. A region *is* a section if both agree in more
    than half of their pixels, so that of regions without common pixels only one can be it:

    .. math:: \frac{|r \cap s|}{|r \cap L| + |s| - |r \cap s|} > \tfrac12

    where L is all that is labelled: what lies on a membrane of the truth does not count. A region *stands for*
    the section that it shares most labelled pixels with, be it that or only a part of it or too much; but for
    none if most of its pixels are not labelled.

    A link of a result is true if it links regions that stand for sections that are linked in truth. It is wrong
    if they stand for sections of different objects. (Between two sections of one object that are not linked in
    truth it is neither: it joins what belongs together.) So a neuron whose section is parted in the result, and
    whose parts are linked rightly, has wrong sections, and no wrong links. Counting strictly, regions stand
    only for sections that they are, and every link that is not true is wrong.

    Attributes
    ----------
    sections
        Those of the truth.
    partner
        The section that each region is; −1: none.
    stands_for
        The section that each region stands for; −1: none.
    """

    sections: Sections
    partner: Index
    stands_for: Index

    def errors(
        self, hypotheses: Hypotheses, assignments: Assignments, chosen: Mask, *, strict: bool = False
    ) -> SolutionErrors:
        """Return how wrong a solution is; takes milliseconds."""
        _, source, target = links(assignments, chosen)
        counted, _ = self.count(used(hypotheses, assignments, chosen), source, target, strict=strict)
        said = self.judge(hypotheses, assignments, strict=strict)
        wrong = said.wrong_links * chosen, said.wrong_sections * chosen
        return SolutionErrors(counted, Judgement(said.is_wrong & chosen, said.is_judged & chosen, *wrong))

    def judge(self, hypotheses: Hypotheses, assignments: Assignments, *, strict: bool = False) -> Judgement:
        """Return what the truth says of all assignments."""
        n, everything = len(assignments), np.ones(len(assignments), np.bool_)
        number, source, target = links(assignments, everything)
        is_wrong, is_said = self._of_links(source, target, strict)
        wrong_links = np.bincount(number[is_wrong], minlength=n).astype(np.int8)
        is_judged = np.bincount(number[is_said], minlength=n) > 0
        stands, goes_on = self.partner if strict else self.stands_for, self.sections.goes_on()
        inside = ~is_at_border(hypotheses, assignments)
        wrong_ends = np.zeros(n, np.bool_)
        for kind, side, members in (
            (APPEARANCE, 0, assignments.targets), (DISAPPEARANCE, 1, assignments.sources),
        ):  # fmt: skip
            ends = np.flatnonzero((assignments.kind == kind) & inside)
            section = stands[members[ends, 0]]
            is_judged[ends] = section >= 0
            wrong_ends[ends] = (section >= 0) & np.append(goes_on[side], False)[section]
        is_extra = np.append((self.partner < 0) & (self.stands_for >= 0), False)
        wrong_sections = is_extra[assignments.targets].sum(axis=1).astype(np.int8)
        return Judgement((wrong_links > 0) | wrong_ends, is_judged, wrong_links, wrong_sections)

    def count(
        self, is_used: Mask, source: Index, target: Index, *, strict: bool = False
    ) -> tuple[SliceErrors, Mask]:
        """Return the errors of a result, and which links are wrong.

        Parameters
        ----------
        is_used
            Which regions the result has, no two of them with common pixels.
        source, target
            Its links.
        strict
            See `Comparison`.
        """
        sections, stands = self.sections, self.partner if strict else self.stands_for
        found = np.unique(self.partner[is_used & (self.partner >= 0)])
        extra = is_used & (self.partner < 0) & (self.stands_for >= 0)
        is_wrong, _ = self._of_links(source, target, strict)
        pairs = np.stack((stands[source], stands[target]), axis=1)
        true = np.unique(pairs[sections.is_link(pairs[:, 0], pairs[:, 1])], axis=0)
        return SliceErrors(
            len(sections), len(sections.links), len(sections) - len(found), int(extra.sum()),
            len(sections.links) - len(true), int(is_wrong.sum()),
        ), is_wrong  # fmt: skip

    def _of_links(self, source: Index, target: Index, strict: bool) -> tuple[Mask, Mask]:
        """Return which links are wrong, and of which the truth says anything."""
        is_said = (self.stands_for[source] >= 0) & (self.stands_for[target] >= 0)
        if strict:
            return is_said & ~self.sections.is_link(self.partner[source], self.partner[target]), is_said
        a, b = self.stands_for[source], self.stands_for[target]
        ids = np.append(self.sections.ids, -1)
        return is_said & (ids[a] != ids[b]), is_said


def compare(
    hypotheses: Hypotheses,
    truth: ArrayLike,
    rules: SectionRules = RULES,
    *,
    progress: Progress = None,
) -> Comparison:
    """Return what each hypothesis is in truth.

    Parameters
    ----------
    hypotheses
        Of all slices.
    truth
        Labels of objects (z, y, x); 0 for membranes and what is not labelled.
    rules
        What a section is.
    progress
        Called with slices done and slices in all.
    """
    _check_shape(hypotheses.nodes.shape, truth)
    nodes = (np.asarray(hypotheses.nodes[z]) for z in range(hypotheses.n_slices))
    sections, rows = _shared(nodes, truth, rules, progress)
    return _compared(sections, kernels.climbed(*rows, hypotheses.parent), hypotheses.area)


def slice_errors(
    labels: ArrayLike,
    truth: ArrayLike,
    rules: SectionRules = RULES,
    *,
    strict: bool = False,
    progress: Progress = None,
) -> SliceErrors:
    """Return how wrong labels are, wherever they come from, counted as for a solution.

    Their sections and links are found by the same rules as those of the truth.
    """
    _check_shape(tuple(labels.shape), truth)
    reader = SectionReader(rules)
    parts = (reader.read(np.asarray(labels[z])) for z in range(labels.shape[0]))
    sections, rows = _shared(parts, truth, rules, progress)
    result = reader.sections()
    everything = np.ones(len(result), np.bool_)
    comparison = _compared(sections, rows, result.area)
    return comparison.count(everything, result.links[:, 0], result.links[:, 1], strict=strict)[0]


def _check_shape(shape: tuple[int, ...], truth: ArrayLike) -> None:
    if tuple(truth.shape) != shape:
        raise DataError(f"The truth is {tuple(truth.shape)} and the result {shape} (z, y, x)",
                        "labels of the same shape", "Give the labels that belong to this volume")  # fmt: skip


def _shared(
    regions: Iterator[Index], truth: ArrayLike, rules: SectionRules, progress: Progress
) -> tuple[Sections, tuple[Index, Index, NDArray[np.int64]]]:
    """Return the sections of the truth, and the pixels that each smallest region shares with each."""
    reader, rows = SectionReader(rules), []
    for z, numbers in enumerate(regions):
        rows.append(kernels.shared(numbers, reader.read(np.asarray(truth[z]))))
        if progress is not None:
            progress(z + 1, truth.shape[0])
    region, section, pixels = (np.concatenate(column) for column in zip(*rows, strict=True))
    return reader.sections(), (region, section, pixels)


def _compared(
    sections: Sections, rows: tuple[Index, Index, NDArray[np.int64]], area: NDArray[np.int64]
) -> Comparison:
    """Return what regions are, given the pixels that they share with sections, and their own."""
    region, section, pixels = rows
    labelled = np.bincount(region, pixels, len(area)).astype(np.int64)
    order = np.lexsort((section, -pixels, region))
    best = order[np.append(True, np.diff(region[order]) > 0)[: len(order)]]
    r, s, shared = region[best], section[best], pixels[best]
    partner, stands_for = (np.full(len(area), -1, np.int32) for _ in range(2))
    stands_for[r] = np.where(2 * labelled[r] >= area[r], s, -1)
    partner[r] = np.where(2 * shared > labelled[r] + sections.area[s] - shared, s, -1)
    return Comparison(sections, partner, stands_for)
