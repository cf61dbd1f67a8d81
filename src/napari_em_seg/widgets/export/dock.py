"""Dock "Export": labels, links, meshes, skeletons, a report and the pipeline, as files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Labels
from qtpy.QtWidgets import QMessageBox, QVBoxLayout

from napari_em_seg import pipeline
from napari_em_seg.errors import DataError, EmSegError
from napari_em_seg.pipeline import Export, Exported
from napari_em_seg.pipeline.config import (
    STEPS,
    Config,
    about_session,
    config_of,
    export_pipeline,
    steps_as_text,
    with_export,
    write_config,
)
from napari_em_seg.review import Session
from napari_em_seg.volume import Volume
from napari_em_seg.widgets.export.choices import Objects, Place, Source, What, export_of
from napari_em_seg.widgets.layer_box import LayerBox
from napari_em_seg.widgets.layers import (
    pixel_at,
    role_of,
    shape_of,
    unread_volume_of,
    without_remark,
)
from napari_em_seg.widgets.names import CONTAINERS, as_file_name
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.parts import button, form, number, remember

__all__ = ["ExportWidget"]


class ExportWidget(Panel):
    """Writes what a session or a layer of labels has come to.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._is_image_chosen = False
        self._build()
        self._connect()
        self.follow()

    # Building

    def _build(self) -> None:
        self.source, self.image = Source(), LayerBox("none")
        self.source.setToolTip("The session under review, or a layer of labels")
        self.image.setToolTip("For the report and the pipeline: the image that labels are about")
        self.what, self.objects, self.where = What(), Objects(), Place()
        self.fill = number("How far objects of a session grow into what is between them, in pixels; 0: "
                           "not at all", 0, 1000, 30, step=1, decimals=0, unit="px")  # fmt: skip
        remember("export", {"fill": self.fill})
        self.go = button("Export", "Write all that is ticked; each file appears once it is whole")
        layout = QVBoxLayout(self)
        layout.addLayout(form({"From": self.source, "Image": self.image}))
        layout.addWidget(self.what)
        layout.addLayout(form({"Objects": self.objects, "Grow by": self.fill}))
        layout.addWidget(self.where)
        layout.addWidget(self.go)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        layout.addStretch(1)
        self.setMinimumWidth(380)

    def _connect(self) -> None:
        self.source.currentIndexChanged.connect(self._on_source)
        self.image.activated.connect(self._on_image)
        self.what.changed.connect(self._enable)
        self.objects.changed.connect(self._enable)
        self.go.clicked.connect(self._on_go)
        self.state.changed.connect(self.on_layers)

    # Layers and the session

    @property
    def session(self) -> Session | None:
        """The session that is exported from, if it is one."""
        desk = self.state.desk
        return desk.session if desk is not None and self.source.layer is None else None

    def on_layers(self) -> None:
        """Offer what is there."""
        labels = [x for x in self._viewer.layers if isinstance(x, Labels) and len(shape_of(x)) == 3]
        labels = [x for x in reversed(labels) if role_of(x) not in ("errors", "preview", "objects")]
        desk = self.state.desk
        self.source.offer_session("" if desk is None else desk.session.path.stem, labels)
        images = [x for x in self._viewer.layers if isinstance(x, Image) and x.ndim == 3 and not x.rgb]
        self.image.offer(images)
        if not self._is_image_chosen:
            plain = [x for x in images if not role_of(x)]
            self.image.choose(self.state.image if self.state.image in images else next(iter(plain), None))
        self._on_source()

    def _on_source(self, _place: int = 0) -> None:
        session, layer = self.session, self.source.layer
        if session is not None:
            self.where.suggest(session.path.parent, session.path.stem)
            self.what.offer_formats(self.state.desk.sheet.objects.dtype)
        elif layer is not None:
            self.what.offer_formats(layer.dtype)
            image = self.image.layer
            sources = [str(x.metadata.get("source") or "") for x in (layer, image) if x is not None]
            self.where.suggest(
                _folder_of(next(filter(None, sources), "")), as_file_name(without_remark(layer.name), "objects")
            )
        self._enable()

    def _on_image(self, _place: int) -> None:
        self._is_image_chosen = True
        if self.image.layer is not None:
            self.state.image = self.image.layer

    def _enable(self, _value: object = None) -> None:
        has_session = self.session is not None
        self.what.enable(has_session)
        self.image.setEnabled(not has_session)
        self.fill.setEnabled(has_session)
        self.objects.setEnabled(self.what.is_wanted("meshes") or self.what.is_wanted("skeletons"))
        has_source = has_session or self.source.layer is not None
        self.go.setEnabled(has_source and self.what.is_any and not self.is_busy)

    # Clicks choose objects

    def wants_clicks(self) -> bool:
        """Whether clicks choose objects."""
        return self.objects.isEnabled() and self.objects.are_named and self._shown() is not None

    def owns_clicks(self) -> bool:
        """Whether objects are being chosen."""
        return self.wants_clicks()

    def on_click(self, position: tuple[float, ...]) -> None:
        """Choose the object at a place of the world, or let go of it."""
        layer = self._shown()
        place = pixel_at(layer, position)
        data = layer.data[0] if layer.multiscale else layer.data
        name = 0 if place is None else int(data[place])
        if name:
            self.say(f"Object {name} is {'chosen' if self.objects.toggle(name) else 'left out'}")

    def _shown(self) -> Labels | None:
        """Return the layer that shows the objects."""
        if self.source.layer is not None:
            return self.source.layer
        shown = [x for x in self._viewer.layers if isinstance(x, Labels) and role_of(x) == "objects"]
        return shown[0] if shown and self.session is not None else None

    # Writing

    def _on_go(self) -> None:
        try:
            folder, name = self.where.place()
            places = self.what.places(folder, name)
            wanted = export_of(self.what, self.objects, places, self.fill.value())
            work, about = self._work(wanted, places.get("pipeline"))
        except EmSegError as error:
            self.on_failed(error)
            return
        there = [Path(place).name for place in places.values() if Path(place).exists()]
        overwrite = bool(there)
        if there and not self._may_replace(there):
            self.say("Nothing was written; choose another name")
            return

        def done(found: list[str]) -> None:
            self.say(f"Wrote {', '.join(Path(place).name for place in found)} into {folder}")
            n = len(found)
            self.state.tell("Export", f"{n} thing{'s' if n > 1 else ''} written into {folder}")

        self.start("Export", lambda **options: work(overwrite=overwrite, **options), layer=about, done=done)

    def _may_replace(self, names: list[str]) -> bool:
        answer = QMessageBox.question(
            self, "Replace files?",
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} there already. Replace what is there? "
            "(No: choose another name.)",
        )  # fmt: skip
        return answer == QMessageBox.StandardButton.Yes

    def _work(self, wanted: Export, pipeline_file: str | None) -> tuple[Callable[..., list[str]], Any]:
        """Return what is done in the thread, and what it is about."""
        session, layer = self.session, self.source.layer
        if session is not None:
            return lambda **options: _write_session(session, wanted, pipeline_file, **options), session
        labels = _labels_of(layer)
        image = None if self.image.layer is None else unread_volume_of(self.image.layer)
        if image is not None and image.shape != labels.shape:
            image = None
        steps = layer.metadata.get(STEPS)
        config = None
        if image is not None and steps and image.source:
            config = config_of(image, steps)
        elif pipeline_file is not None:
            raise _unknown_way(layer.name, image, steps)
        return (
            lambda **options: _write_labels(labels, wanted, image, config, pipeline_file, **options)
        ), layer  # fmt: skip

    def last_words(self) -> str:
        """Say what cancelling has left."""
        return "Stopped; what was complete by then is there, and nothing half"

    def on_busy(self, is_busy: bool) -> None:
        """Enable what can be pressed."""
        self._enable()

    def let_go(self) -> None:
        """Follow the session no longer."""
        self.state.changed.disconnect(self.on_layers)


def _write_session(
    session: Session, wanted: Export, pipeline_file: str | None, *, overwrite: bool, **options: Any
) -> list[str]:
    places = []
    if pipeline_file is not None:
        places = export_pipeline(session, pipeline_file, overwrite, export=wanted)
    found = pipeline.export_session(
        session, wanted, about=about_session(session), overwrite=overwrite, **options
    )
    return [*found.places, *places]


def _write_labels(
    labels: Volume, wanted: Export, image: Volume | None, config: Config | None, pipeline_file: str | None, *,
    overwrite: bool, **options: Any,
) -> list[str]:  # fmt: skip
    about = "" if config is None else steps_as_text(config)
    found = Exported(())
    if wanted.targets:
        found = pipeline.export_volume(labels, wanted, image=image, about=about, overwrite=overwrite, **options)
    if pipeline_file is None or config is None:
        return list(found.places)
    write_config(with_export(config, wanted), pipeline_file, overwrite=overwrite)
    return [*found.places, pipeline_file]


def _unknown_way(name: str, image: Volume | None, steps: Any) -> DataError:
    if not steps:
        return DataError(f"The layer {name} does not say how it was made", "labels that the dock Segment made",
                         "Untick the pipeline, or choose other labels")  # fmt: skip
    came = (
        "No image of the same shape is chosen" if image is None else f"The image {image.name} lies in no file"
    )
    return DataError(
        came, "the image that labels were made from, in a file", "Choose it, or save it and open that"
    )


def _labels_of(layer: Labels) -> Volume:
    volume = unread_volume_of(layer)
    if isinstance(volume.data, np.ndarray) and layer.editable:  # people may go on painting
        return Volume(volume.data.copy(), volume.voxel_size_nm, volume.name, volume.source, "labels")
    return volume


def _folder_of(source: str) -> Path:
    """Return the folder that a file lies in, outside of any container; the home folder, if it is in none."""
    for parent in Path(source).parents if source else ():
        if parent.is_dir() and parent.suffix not in CONTAINERS:
            return parent
    return Path.home()
