"""Volumes described, converted, made and compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from napari_em_seg import io
from napari_em_seg.metrics import Scores, contingency, evaluate
from napari_em_seg.sample import generate
from napari_em_seg.segment import intensity_watershed
from napari_em_seg.volume import Kind, Progress, Volume, VoxelSize, range_of, slabs

__all__ = [
    "VolumeInfo",
    "baseline",
    "compare",
    "convert",
    "describe",
    "open_labels",
    "refuse_not_finite",
    "sample_volumes",
    "write_sample",
]

_CHECK_WHOLE_BELOW = 2**30  # bytes; larger float volumes are checked as they are read


@dataclass(frozen=True)
class VolumeInfo:
    """What a person wants to know of a volume before opening it."""

    source: str
    kind: Kind
    shape: tuple[int, int, int]
    dtype: str
    voxel_size_nm: VoxelSize | None
    size_bytes: int
    levels: int
    lowest: float
    highest: float


def describe(source: str) -> list[VolumeInfo]:
    """Describe every volume at a path; the range of values is that of the first, middle and last slice."""
    return [_describe(volume) for volume in io.open_volumes(source)]


def _describe(volume: Volume) -> VolumeInfo:
    refuse_not_finite(volume)
    planes = [volume[z] for z in sorted({0, len(volume) // 2, len(volume) - 1})]
    return VolumeInfo(
        volume.source,
        volume.kind,
        volume.shape,
        str(volume.dtype),
        volume.voxel_size_nm,
        volume.nbytes,
        1 + len(volume.pyramid),
        min(p.min().item() for p in planes),
        max(p.max().item() for p in planes),
    )


def refuse_not_finite(volume: Volume) -> None:
    """Read a float volume through, so that NaN shows when it is opened; large ones show it later."""
    if volume.dtype.kind == "f" and volume.nbytes < _CHECK_WHOLE_BELOW:
        for block in slabs(volume.shape, volume.nbytes // len(volume)):
            volume[block]


def sample_volumes(shape: tuple[int, int, int] = (30, 512, 512), seed: int = 0) -> tuple[Volume, Volume]:
    """Make synthetic tissue and its truth."""
    sample = generate(shape, seed)
    size = sample.voxel_size_nm
    return Volume(sample.raw, size, "raw"), Volume(sample.labels, size, "labels", kind="labels")


def write_sample(
    target: str,
    shape: tuple[int, int, int] = (30, 512, 512),
    seed: int = 0,
    *,
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write synthetic tissue as ``raw`` and its truth as ``labels`` into one container."""
    io.check_target(target, ("raw", "labels"), overwrite=overwrite)
    raw, labels = sample_volumes(shape, seed)
    io.write_volumes({"raw": raw, "labels": labels}, target, overwrite=overwrite, progress=progress)


def convert(
    source: str,
    target: str,
    *,
    kind: Kind | None = None,
    format_name: str | None = None,
    voxel_size_nm: VoxelSize | None = None,
    part: Sequence[slice] = (),
    overwrite: bool = False,
    progress: Progress = None,
) -> None:
    """Write a volume, or a part of it, in another format, or with the voxel size that its file did not know."""
    volume = io.open_volume(source, kind) if kind else _only_volume(source)
    if part:
        volume = volume.part(part)
    if voxel_size_nm is not None:
        volume = volume.with_voxel_size(voxel_size_nm)
    io.write_volume(volume, target, format_name, overwrite=overwrite, progress=progress)


def _only_volume(source: str) -> Volume:
    volumes = io.open_volumes(source)
    return volumes[0] if len(volumes) == 1 else io.open_volume(source)


def open_labels(text: str) -> Volume:
    """Open LABELS or LABELS,A:B, of which the slices from A up to, not including, B are meant."""
    path, _, part = text.rpartition(",")
    slices = range_of(part)
    return io.open_volume(text, "labels") if slices is None else io.open_volume(path, "labels").part([slices])


def compare(segmentation: str, truth: str, progress: Progress = None) -> Scores:
    """Measure a segmentation against the truth, both given by their paths, see `open_labels`."""
    found, wanted = open_labels(segmentation), open_labels(truth)
    return evaluate(contingency(found, wanted, progress=progress))


def baseline(raw: Volume, truth: Volume) -> tuple[Volume, Scores]:
    """Segment by a plain watershed on the grey values, and measure it: what every predictor has to beat."""
    labels = intensity_watershed(raw[:])
    scores = evaluate(contingency(labels, truth))
    return Volume(labels, raw.voxel_size_nm, "baseline watershed", kind="labels"), scores
