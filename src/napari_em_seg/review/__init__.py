"""Review: what people decide about links, kept as a journal that loses nothing."""

from napari_em_seg.review.added import AddedLink, AddedRegion
from napari_em_seg.review.expected import Calibration, Expected, StoppingRule, calibrate, expected_left
from napari_em_seg.review.export import describe, labels_of, write_history, write_labels, write_links
from napari_em_seg.review.folder import create_session
from napari_em_seg.review.history import copy_fresh, replay
from napari_em_seg.review.links import KINDS, ORDERS, Links, link_name, objects_of, parse_link
from napari_em_seg.review.lock import SessionInUseError
from napari_em_seg.review.merges import Merges
from napari_em_seg.review.operations import Draft, Operation
from napari_em_seg.review.pace import curve, verdicts_per_minute
from napari_em_seg.review.reconstruction import MakeResolver, Outcome, Reconstruction, Resolver, Scores
from napari_em_seg.review.retraining import Report, Samples, Trained, retrain, samples_of
from napari_em_seg.review.session import Session
from napari_em_seg.review.state import State, Status, fold
from napari_em_seg.review.view import View

__all__ = [
    "KINDS",
    "ORDERS",
    "AddedLink",
    "AddedRegion",
    "Calibration",
    "Draft",
    "Expected",
    "Links",
    "MakeResolver",
    "Merges",
    "Operation",
    "Outcome",
    "Reconstruction",
    "Report",
    "Resolver",
    "Samples",
    "Scores",
    "Session",
    "SessionInUseError",
    "State",
    "Status",
    "StoppingRule",
    "Trained",
    "View",
    "calibrate",
    "copy_fresh",
    "create_session",
    "curve",
    "describe",
    "expected_left",
    "fold",
    "labels_of",
    "link_name",
    "objects_of",
    "parse_link",
    "replay",
    "retrain",
    "samples_of",
    "verdicts_per_minute",
    "write_history",
    "write_labels",
    "write_links",
]
