"""Session: a reconstruction and all that people say about it, kept so that nothing is lost."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_em_seg.errors import DataError
from napari_em_seg.io._location import absolute
from napari_em_seg.review import drafts
from napari_em_seg.review._core import OpenSession
from napari_em_seg.review.added import AddedLink
from napari_em_seg.review.alternatives import Alternatives
from napari_em_seg.review.drafts import Known
from napari_em_seg.review.expected import Expected
from napari_em_seg.review.links import NO_LINK, Links, link_name
from napari_em_seg.review.operations import DO_NOT_KNOW, MOVED, NOTE, SETTING, SKIP, Draft, Operation
from napari_em_seg.review.references import open_reference
from napari_em_seg.review.state import State
from napari_em_seg.volume import Volume

__all__ = ["Session"]


class Session(OpenSession):
    """An open session, and what people can say in it; `OpenSession` says how it is opened.

    ``how`` is in all methods what `commit` takes: ``duration_s``, ``shown``, ``user``, ``time``. A link is a
    number as in `Links.id`.
    """

    _alternatives: Alternatives | None = None

    @property
    def known(self) -> Known:
        """All assignments and hypotheses, those made by hand among them."""
        return Known(self.reconstruction, self.state)

    def links(self) -> Links:
        """Return all links that can be looked at, the merges of the agglomeration at the end."""
        return self.view.links

    def alternatives(self, link: int, n: int = 9) -> list[int]:
        """Return what could be in the place of an assignment, the best first; merges have no alternatives."""
        view = self.view
        self._check_link(link)
        if link < 0:
            return []
        if self._alternatives is None:
            self._alternatives = Alternatives(view.reconstruction)
        return self._alternatives.of(link, view.reconstruction.costs, view.outcome, view.state, n)

    def expected(self, links: Links | None = None, level: float = 0.9) -> Expected:
        """Return how many errors are left, as far as the verdicts so far tell."""
        return self.view.expected(links, level)

    def volume(self, name: str) -> Volume:
        """Open a volume that the session refers to; one that moved or changed is an error that says so."""
        return self._referred(name, self.state.moved.get(name))

    def accept(self, link: int, **how: Any) -> Operation:
        """Say that a link is right as it is."""
        return self._decide(link, True, how)

    def reject(self, link: int, **how: Any) -> Operation:
        """Say that a link is wrong, without saying what is right."""
        return self._decide(link, False, how)

    def choose(self, link: int, choice: int, **how: Any) -> Operation:
        """Say that another assignment is right in the place of one."""
        with self._one_by_one:
            return self.commit(drafts.choose(self.known, link, choice, self._shown(link)), **how)

    def choose_alternative(self, link: int, k: int, **how: Any) -> Operation:
        """Say that the k-th alternative is right, from 1 on."""
        with self._one_by_one:
            listed = self.alternatives(link)
            if not 1 <= k <= len(listed):
                raise DataError(f"There is no alternative {k} to link {link_name(link)}",
                                f"one of 1 to {len(listed)}" if listed else "a link with alternatives",
                                "Choose one of the list, or reject the link")  # fmt: skip
            return self.choose(link, listed[k - 1], **how)

    def add_link(
        self,
        sources: Sequence[int],
        targets: Sequence[int],
        *,
        link: int | None = None,
        cost: float = 0.0,
        **how: Any,
    ) -> Operation:
        """Make an assignment, in the place of a link or of none; one that is there already is taken."""
        with self._one_by_one:
            shown = {} if link is None else self._shown(link)
            return self.commit(drafts.by_hand(self.known, sources, targets, link, cost, shown), **how)

    def add_region(
        self,
        z: int,
        y: int,
        x: int,
        mask: NDArray[np.bool_],
        origin: str = "painted",
        *,
        candidates: Sequence[AddedLink] = (),
        end_cost: float | None = None,
        **how: Any,
    ) -> Operation:
        """Make a hypothesis of a mask that begins at (y, x) in slice z.

        It may begin and end there, at ``end_cost`` each (free in the first and the last slice; if nobody says,
        what is usual); other ``candidates`` for it can come along, and links to it are made by hand. Its number
        is that of all hypotheses, plus one for each region painted before.
        """
        with self._one_by_one:
            draft = drafts.region(self.known, (z, y, x), mask, origin, candidates, end_cost)
            return self.commit(draft, **how)

    def add_object(
        self, masks: Mapping[int, NDArray[np.bool_]], origin: str = "propagated", **how: Any
    ) -> Operation:
        """Make an object of one mask (y, x) in each of several slices; what is in its way gives way.

        Objects that were accepted before do not: where they overlap it, this is refused.
        """
        with self._one_by_one:
            return self.commit(drafts.object_through(self.known, masks, origin), **how)

    def do_not_know(self, link: int, **how: Any) -> Operation:
        """Say that one cannot tell; an earlier answer is taken back."""
        with self._one_by_one:
            return self.commit(Draft(DO_NOT_KNOW, {"link": link}, self._shown(link)), **how)

    def skip(self, link: int, **how: Any) -> Operation:
        """Leave a link for later."""
        with self._one_by_one:
            return self.commit(Draft(SKIP, {"link": link}, self._shown(link)), **how)

    def note(self, text: str, link: int | None = None, **how: Any) -> Operation:
        """Write a remark, on a link or on all."""
        if link is not None:
            self._check_link(link)
        return self.commit(Draft(NOTE, {"text": text, "link": link}), **how)

    def change_setting(self, name: str, value: Any, *, solves: bool = False, **how: Any) -> Operation:
        """Change a threshold or another setting; ``solves`` says whether the solution depends on it."""
        return self.commit(Draft(SETTING, {"name": name, "value": value, "solves": solves}), **how)

    def moved(self, name: str, path: str | os.PathLike[str], **how: Any) -> Operation:
        """Say where a volume is now; another one than before is refused."""
        place = str(absolute(path))
        self._referred(name, place)
        return self.commit(Draft(MOVED, {"name": name, "path": place}), **how)

    def _referred(self, name: str, moved: str | None) -> Volume:
        if name not in self.references:
            raise DataError(f"{self.path} refers to no {name!r}",
                            f"one of {', '.join(self.references) or 'no volumes at all'}",
                            "Choose one of these")  # fmt: skip
        return open_reference(name, self.references[name], self.path, moved)

    def _decide(self, link: int, is_right: bool, how: dict[str, Any]) -> Operation:
        with self._one_by_one:
            shown = self._shown(link)
            value = is_right
            if link < 0 and self.merges is not None:  # right is what the agglomeration says, merged or not
                value = bool(self.merges.is_made(State(settings=self.state.settings))[-2 - link]) == is_right
            return self.commit(drafts.decide(link, is_right, value, shown), **how)

    def _check_link(self, link: int) -> None:
        if link >= 0:
            self.known.link(link)
        elif link == NO_LINK or self.merges is None or -2 - link >= len(self.merges):
            n = 0 if self.merges is None else len(self.merges)
            raise DataError(f"There is no link {link_name(link)}",
                            f"one of m0 to m{n - 1}" if n else "an assignment: there is no agglomeration here",
                            "Look at the list of links")  # fmt: skip

    def _shown(self, link: int) -> dict[str, Any]:
        """Return what anybody sees who looks at a link."""
        self._check_link(link)
        links = self.links()
        rows = np.flatnonzero(links.id == link)
        if not len(rows):
            return {"link": link, "alternatives": self.alternatives(link)}
        (row,) = rows
        worse = links.is_open & (links.confidence < links.confidence[row])
        return {
            "link": link, "rank": int(np.count_nonzero(worse)) + 1, "confidence": float(links.confidence[row]),
            "p_error": float(links.p_error[row]), "alternatives": self.alternatives(link),
        }  # fmt: skip
