"""Features: each one computed again from pixels, one assignment at a time; what they may not depend on."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from napari_em_seg.assign.assignments import KINDS
from napari_em_seg.assign.candidates import Limits, find_candidates
from napari_em_seg.assign.features import DUMMY, FEATURES, MEANINGS, Evidence, assignment_features

ALL_PAIRS = Limits(distance=100, overlap=0, links=1000, partners=3, fit=0.1)
NEVER = 2.0
COLUMN = {name: i for i, name in enumerate(FEATURES)}


def evidence_for(sections, seed):
    rng = np.random.default_rng(seed)
    shape = sections.labels.shape
    raw = np.round(255 * rng.random(shape)).astype(np.uint8)
    boundary, across = rng.random(shape, np.float32), rng.random(shape, np.float32)
    return Evidence(raw, boundary, across, sections.cuts, sections.levels, sections.labels)


class ByHand:
    """The features of one assignment at a time, from masks."""

    def __init__(self, hypotheses, masks, evidence, pairs):
        self.h, self.masks, self.evidence = hypotheses, masks, evidence
        planes = np.asarray(evidence.raw).astype(float)
        deviation = planes.std(axis=(1, 2), keepdims=True)
        self.grey = (planes - planes.mean(axis=(1, 2), keepdims=True)) / deviation
        self.row = {(i, j): p for p, (i, j) in enumerate(zip(pairs.source, pairs.target, strict=True))}
        self.correlation, self.joined = cache(self._correlation), cache(self._joined)

    def of(self, sources, targets):
        """Return all features, by name; sources and targets without those of −1."""
        found = dict.fromkeys(FEATURES, DUMMY)
        found |= self.members(sources + targets)
        sides = [self.union(side) for side in (sources, targets) if side]
        areas = sorted(side.sum() for side in sides)
        found |= {"log_area_small": np.log(areas[0]), "log_area_large": np.log(areas[-1])}
        values = np.concatenate([self.grey[self.h.z[side[0]]][self.union(side)]
                                 for side in (sources, targets) if side])  # fmt: skip
        found["grey"] = values.mean()
        for name, side, step in (("source", sources, 1), ("target", targets, -1)):
            if side:
                found[f"elongation_{name}"] = self.axes(self.union(side))[0]
                found |= {f"{key}_{name}": value for key, value in self.rivals(side, step).items()}
        if sources and targets:
            found |= self.link(sources, targets)
        pair = max(sources, targets, key=len)
        if len(pair) == 2:
            found |= self.partners(pair, targets if pair == sources else sources)
        return found

    def union(self, side):
        return np.logical_or.reduce([self.masks[i] for i in side])

    def members(self, involved):
        h = self.h
        inside, outline = [], []
        for i in involved:
            plane, mask = self.evidence.boundary[h.z[i]], self.masks[i]
            inside.append(plane[mask].mean())
            edges = [
                np.maximum(a, b)[one != other]
                for a, b, one, other in (
                    (plane[1:], plane[:-1], mask[1:], mask[:-1]),
                    (plane[:, 1:], plane[:, :-1], mask[:, 1:], mask[:, :-1]),
                )
            ]
            outline.append(np.concatenate(edges).mean())
        return {
            "stability": min(h.death[i] - h.birth[i] for i in involved),
            "birth": max(h.birth[i] for i in involved), "death": min(h.death[i] for i in involved),
            "leaves": np.log(sum(h.leaves[i] for i in involved)),
            "boundary_inside": max(inside), "boundary_outline": min(outline),
        }  # fmt: skip

    def link(self, sources, targets):
        s, t, z = self.union(sources), self.union(targets), self.h.z[sources[0]]
        shift = np.argwhere(t).mean(0) - np.argwhere(s).mean(0)
        moved = np.argwhere(s) + np.rint(shift).astype(int)
        within = moved[((moved >= 0) & (moved < s.shape)).all(1)]
        grey = [self.grey[z][s], self.grey[z + 1][t]]
        bins = [np.clip(np.floor((values + 3) / 6 * 16), 0, 15) for values in grey]
        histograms = [np.bincount(b.astype(int), minlength=16) / len(b) for b in bins]
        (long_s, axis_s), (long_t, axis_t) = self.axes(s), self.axes(t)
        sine = abs(axis_s[0] * axis_t[1] - axis_s[1] * axis_t[0])
        links = [(i, j) for i in sources for j in targets]
        near, far = ([self.correlation(*link, step) for link in links] for step in (1, 4))
        join = max(self.joined(*link) for link in links)
        e = self.evidence
        return {
            "area_ratio": min(s.sum(), t.sum()) / max(s.sum(), t.sum()),
            "distance": np.hypot(*shift), "relative_distance": np.hypot(*shift) / min(s.sum(), t.sum()) ** 0.5,
            "overlap_source": (s & t).sum() / s.sum(), "overlap_target": (s & t).sum() / t.sum(),
            "overlap": (s & t).sum() / (s | t).sum(), "difference": (s ^ t).sum() / (s.sum() + t.sum()),
            "overlap_aligned": t[tuple(within.T)].sum() / s.sum(),
            "evidence": e.across[z + 1][s & t].mean() if (s & t).any() else DUMMY,
            "evidence_partner": min(self.shared_evidence(*link) for link in links),
            "correlation_near": min(value for value, _ in near), "offset_near": max(far for _, far in near),
            "correlation_far": min(value for value, _ in far), "offset_far": max(far for _, far in far),
            "histograms": abs(histograms[0] - histograms[1]).sum() / 2,
            "grey_difference": abs(grey[0].mean() - grey[1].mean()),
            "turn": sine * min(long_s - 1, long_t - 1, 1), "join": join,
            "join_late": join - max(self.h.birth[i] for i in sources + targets),
            "agreement": min(e.agreement[self.row[link]] for link in links),
        }  # fmt: skip

    def partners(self, pair, other):
        masks = [self.masks[i] for i in pair]
        areas = [mask.sum() for mask in masks]
        apart = np.argwhere(masks[0]).mean(0) - np.argwhere(masks[1]).mean(0)
        rest = self.union(other)
        return {
            "overlap_partner": min((mask & rest).sum() / mask.sum() for mask in masks),
            "area_partner": min(areas) / sum(areas), "distance_partners": np.hypot(*apart) / sum(areas) ** 0.5,
            "join_partners": self.joined(*pair),
        }  # fmt: skip

    def rivals(self, side, step):
        z = self.h.z[side[0]] + step
        others = range(*self.h.starts[z : z + 2]) if 0 <= z < self.h.n_slices else []
        pairs = [(i, j)[::step] for i in side for j in others]
        overlaps = [(self.masks[i] & self.masks[j]).sum() / (self.masks[i] | self.masks[j]).sum()
                    for i, j in pairs]  # fmt: skip
        return {
            "rival": max(overlaps, default=-2),
            "rival_evidence": max((self.shared_evidence(*pair) for pair in pairs), default=-2),
            "rival_join": min((self.joined(*pair) for pair in pairs), default=NEVER),
        }

    def shared_evidence(self, i, j):
        shared = self.masks[i] & self.masks[j]
        return self.evidence.across[self.h.z[j]][shared].mean() if shared.any() else DUMMY

    def axes(self, mask):
        """Longer principal axis over the shorter one, and its direction; pixels are squares of side 1."""
        at = np.argwhere(mask)
        values, vectors = np.linalg.eigh(np.cov(at.T, bias=True) + np.eye(2) / 12)
        return (values[1] / values[0]) ** 0.5, vectors[:, 1]

    def _joined(self, i, j):
        """The first level at which both regions, all of their pixels, are in the same segment."""
        h, e = self.h, self.evidence
        labels = np.concatenate([e.labels[h.z[k]][self.masks[k]] for k in (i, j)])
        labels = labels[labels > 0]
        if (labels == labels[0]).all():
            return max(h.birth[i], h.birth[j])
        return next((level for level, cut in zip(e.levels, e.cuts, strict=True)
                     if (cut[labels] == cut[labels[0]]).all()), NEVER)  # fmt: skip

    def _correlation(self, i, j, step):
        """Greatest correlation of a patch with all those around the other place, and how far off."""
        at = [np.rint(np.argwhere(self.masks[k]).mean(0)).astype(int) for k in (i, j)]

        def patch(z, y, x):
            reach = step * np.arange(-8, 9)
            ends = zip((y, x), self.grey[z].shape, strict=True)
            rows, columns = (np.clip(v + reach, 0, n - 1) for v, n in ends)
            return self.grey[z][np.ix_(rows, columns)].ravel()

        z = self.h.z[i]
        one = patch(z, *at[0])
        found = [
            (np.corrcoef(one, patch(z + 1, at[1][0] + step * dy, at[1][1] + step * dx))[0, 1],
             step * np.hypot(dy, dx))
            for dy in range(-4, 5) for dx in range(-4, 5)
        ]  # fmt: skip
        return max(found)


def test_every_feature_has_a_meaning():
    assert tuple(MEANINGS) == FEATURES
    assert len(set(FEATURES)) == len(FEATURES)


@pytest.mark.parametrize("seed", range(4))
def test_all_are_what_they_mean(seed, make_sections, masks_of):
    sections = make_sections(seed)
    hypotheses = sections.hypotheses
    found = find_candidates(hypotheses, None, ALL_PAIRS)
    evidence = evidence_for(sections, seed)
    candidates = find_candidates(hypotheses, evidence.across, ALL_PAIRS)
    rng = np.random.default_rng(seed)
    evidence = replace(evidence, agreement=rng.random(len(found.pairs), np.float32))
    rows = assignment_features(hypotheses, candidates, evidence)
    hand = ByHand(hypotheses, masks_of(hypotheses), evidence, candidates.pairs)
    assignments = candidates.assignments
    assert (np.bincount(assignments.kind, minlength=len(KINDS)) > 0).all()
    drawn = [rng.permutation(np.flatnonzero(assignments.kind == kind))[:60] for kind in range(len(KINDS))]
    for m in np.concatenate(drawn):
        sources, targets = (
            tuple(int(i) for i in side[m] if i >= 0) for side in (assignments.sources, assignments.targets)
        )
        expected = hand.of(sources, targets) | {"kind": assignments.kind[m]}
        got = dict(zip(FEATURES, rows[m], strict=True))
        # of one supervoxel on either side, and 0 where that is the same: earlier than that of whole regions
        for name in ("join", "join_late", "join_partners", "rival_join_source", "rival_join_target"):
            assert got.pop(name) <= expected.pop(name) + 2e-4
        assert got == pytest.approx(expected, rel=2e-4, abs=2e-4)
