"""The steps composed: what the command line and the widgets both call. Loads no torch until a net is run."""

from napari_em_seg.assign.candidates import Limits
from napari_em_seg.assign.costs import Prices
from napari_em_seg.pipeline.affinity_maps import open_affinities
from napari_em_seg.pipeline.affinity_training import AffinityRecipe, train_affinity
from napari_em_seg.pipeline.agglomeration import (
    AffinityPart,
    segment_affinities_to_file,
    train_agglomeration,
)
from napari_em_seg.pipeline.assignment import AssignRecipe, Proposals, propose
from napari_em_seg.pipeline.assignment_training import TruthPart, train_assignment
from napari_em_seg.pipeline.blocks import Blocks
from napari_em_seg.pipeline.evaluation import Course, Evaluation, evaluate_labels, judge_file, judge_labels
from napari_em_seg.pipeline.evidence import PredictedMaps, open_maps
from napari_em_seg.pipeline.exports import Export, Exported, export_session, export_volume
from napari_em_seg.pipeline.models import (
    Choice,
    ForestInfo,
    ModelInfo,
    architectures,
    choose_model,
    forests,
    model_names,
    models,
)
from napari_em_seg.pipeline.prediction import (
    Prediction,
    misaligned_slices,
    predict_affinities,
    predict_boundary,
    predict_to_file,
)
from napari_em_seg.pipeline.propagation import (
    Propagated,
    Propagation,
    propagate,
    propagate_to_file,
    watershed_seeds,
)
from napari_em_seg.pipeline.propagator_training import PropagatorRecipe, train_propagator
from napari_em_seg.pipeline.reconstruction import (
    Assigned,
    assign_to_session,
    export_graph,
    export_labels,
    open_session,
    reconstruct,
    reconstruct_to_session,
    session_labels,
)
from napari_em_seg.pipeline.retraining import retrain_session
from napari_em_seg.pipeline.segmentation import Segmentation, segment_to_file
from napari_em_seg.pipeline.training import (
    BoundaryRecipe,
    LabelledPart,
    Provenance,
    train_boundary,
    training_folder,
)
from napari_em_seg.pipeline.volumes import (
    VolumeInfo,
    baseline,
    compare,
    convert,
    describe,
    refuse_not_finite,
    sample_volumes,
    write_sample,
)

__all__ = [
    "AffinityPart",
    "AffinityRecipe",
    "AssignRecipe",
    "Assigned",
    "Blocks",
    "BoundaryRecipe",
    "Choice",
    "Course",
    "Evaluation",
    "Export",
    "Exported",
    "ForestInfo",
    "LabelledPart",
    "Limits",
    "ModelInfo",
    "PredictedMaps",
    "Prediction",
    "Prices",
    "Propagated",
    "Propagation",
    "PropagatorRecipe",
    "Proposals",
    "Provenance",
    "Segmentation",
    "TruthPart",
    "VolumeInfo",
    "architectures",
    "assign_to_session",
    "baseline",
    "choose_model",
    "compare",
    "convert",
    "describe",
    "evaluate_labels",
    "export_graph",
    "export_labels",
    "export_session",
    "export_volume",
    "forests",
    "judge_file",
    "judge_labels",
    "misaligned_slices",
    "model_names",
    "models",
    "open_affinities",
    "open_maps",
    "open_session",
    "predict_affinities",
    "predict_boundary",
    "predict_to_file",
    "propagate",
    "propagate_to_file",
    "propose",
    "reconstruct",
    "reconstruct_to_session",
    "refuse_not_finite",
    "retrain_session",
    "sample_volumes",
    "segment_affinities_to_file",
    "segment_to_file",
    "session_labels",
    "train_affinity",
    "train_agglomeration",
    "train_assignment",
    "train_boundary",
    "train_propagator",
    "training_folder",
    "watershed_seeds",
    "write_sample",
]
