"""Dock "Review links": reconstruct a stack, then work through the doubtful links, the worst first."""

from functools import partial
from pathlib import Path

import napari
import numpy as np
from napari.layers import Image, Layer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_em_seg import pipeline
from napari_em_seg.errors import EmSegError
from napari_em_seg.review import KINDS, ORDERS, Status, link_name
from napari_em_seg.review.links import NO_LINK
from napari_em_seg.review.scene import Choice, in_words
from napari_em_seg.widgets.keys import ACTIONS, KeyMap, key_map
from napari_em_seg.widgets.layers import add_volume, pixel_at, role_of
from napari_em_seg.widgets.panel import Panel
from napari_em_seg.widgets.recent import add_recent
from napari_em_seg.widgets.review.begin import Begin
from napari_em_seg.widgets.review.canvas import OBJECTS, SOURCES, TARGETS, Canvas
from napari_em_seg.widgets.review.desk import TO_DO, Desk, Sheet
from napari_em_seg.widgets.review.hand import Hand
from napari_em_seg.widgets.review.inspector import Inspector
from napari_em_seg.widgets.review.mesh import Mesh, Mesh3D, coloured_objects, mesh_of
from napari_em_seg.widgets.review.numbers import Numbers
from napari_em_seg.widgets.review.table import LinksModel, LinkTable, order_of
from napari_em_seg.widgets.shortcuts import KeysDialog, Shortcuts

__all__ = ["ReviewWidget", "how_good"]

_STATUSES = {
    "to do": TO_DO, "all": None, "answered": frozenset(
        {Status.ACCEPTED, Status.REJECTED, Status.CHANGED}), "don't know": frozenset({Status.DO_NOT_KNOW}),
}  # fmt: skip
_TITLES = {"confidence": "confidence", "regret": "regret", "p_error": "p(error)", "impact": "impact"}
_WIDTH = 410
_NO_GAP = 1e-5  # by so little solutions differ in nothing but rounding
_ON_THE_WAY = ("boundary", "affinities", "segments", "preview")  # these would hide what is reviewed


class ReviewWidget(Panel):
    """What the reviewer sees; all state is in the desk.

    Parameters
    ----------
    napari_viewer
        The viewer, which napari hands over.
    keys
        Which key does what; by default as the user has it.
    """

    def __init__(self, napari_viewer: napari.Viewer, keys: KeyMap | None = None) -> None:
        super().__init__(napari_viewer)
        self.desk = Desk(self.work)
        self.canvas = Canvas(self._viewer)
        self.hand = Hand(self._viewer, self.canvas, self.desk)
        self.mesh = Mesh3D(self._viewer)
        self._mesh_job = None
        self._made_from: tuple[str, Image | None] = ("", None)
        self._followed: Layer | None = None
        self._keys = keys or key_map()
        self._buttons: dict[str, QPushButton] = {}
        self._build()
        self._actions = self._all_actions()
        self.shortcuts = Shortcuts(self, self._keys, self._actions)
        for name, button in self._buttons.items():
            button.clicked.connect(self._actions[name])
        self._connect()
        self._on_opened_or_closed()
        self.follow()
        self.state.set_up(self.desk)
        self.state.changed.connect(self.on_layers)

    # Building

    def _build(self) -> None:
        self.begin = Begin(self._viewer)
        self._title = QLabel()
        self._title.setWordWrap(True)
        self._title.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.close_button = QPushButton("Close session")
        self.close_button.setToolTip("Everything is saved already; the layers of the review are taken away")
        self.numbers = Numbers()
        self.model = LinksModel()
        self.table = LinkTable(self.model)
        self.inspector = Inspector()
        self._question = QLabel()
        self._question.setWordWrap(True)
        self._question.setMinimumHeight(2 * self.fontMetrics().lineSpacing())
        self._mode = QLabel()
        self._mode.setToolTip("Keys work in the canvas and in the list while no tool for painting is active")
        head = QHBoxLayout()
        head.addWidget(self._title, 1)
        head.addWidget(self.close_button)
        lower = QWidget()
        below = QVBoxLayout(lower)
        below.setContentsMargins(0, 0, 0, 0)
        below.addWidget(self._question)
        below.addWidget(self.inspector, 1)
        below.addLayout(self._row_of_actions())
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.table)
        splitter.addWidget(lower)
        splitter.setStretchFactor(0, 1)
        splitter.setStretchFactor(1, 2)
        splitter.setChildrenCollapsible(False)
        self._review = QWidget()
        inside = QVBoxLayout(self._review)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addLayout(head)
        inside.addWidget(self.numbers)
        inside.addLayout(self._row_of_filters())
        inside.addWidget(splitter, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.begin)
        layout.addWidget(self._review, 1)
        layout.addWidget(self.words)
        layout.addWidget(self.foot)
        layout.addStretch(0)
        self.setMinimumWidth(_WIDTH)

    def _row_of_filters(self) -> QGridLayout:
        row = QGridLayout()
        self.order = QComboBox()
        self.order.setToolTip(
            "What comes first: the least confidence, the least regret (what the best other solution costs "
            "more), the greatest probability of an error, or what an error would spoil"
        )
        for name in ORDERS:
            self.order.addItem(_TITLES[name], name)
        self.kind = QComboBox()
        self.kind.setToolTip("Only links of this kind")
        self.kind.addItem("all kinds", None)
        for number, name in enumerate(KINDS):
            self.kind.addItem(name, frozenset({number}))
        self.status = QComboBox()
        self.status.setToolTip("Only links with such an answer")
        for name, found in _STATUSES.items():
            self.status.addItem(name, found)
        self.only_here = QCheckBox("here")
        self.only_here.setToolTip("Only links out of the slice that is shown")
        self.only_object = QPushButton()
        self.only_object.setToolTip("Only links of this object are listed; click to list all again")
        self.only_object.hide()
        for column, (box, share) in enumerate(((self.order, 6), (self.kind, 5), (self.status, 5))):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(3)
            row.addWidget(box, 0, column)
            row.setColumnStretch(column, share)
        row.addWidget(self.only_here, 0, 3)
        row.addWidget(self.only_object, 1, 0, 1, 4)
        return row

    def _row_of_actions(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(3)
        names = ("accept", "reject", "don't know", "skip", "back", "undo", "redo", "next of object",
                 "neighbours", "3-D", "help")  # fmt: skip
        helps = {action.name: action.help for action in ACTIONS}
        for place, name in enumerate(names):
            self._buttons[name] = button = QPushButton()
            button.setToolTip(helps[name])
            grid.addWidget(button, place // 4, place % 4)
        for name in ("neighbours", "3-D"):
            self._buttons[name].setCheckable(True)
        self.retrain_button = QPushButton("Retrain")
        self.retrain_button.setToolTip(
            "Learn from your verdicts (20 at least); the list is made anew if held out verdicts say it is "
            "better"
        )
        self.by_hand = QPushButton("By hand")
        self.by_hand.setCheckable(True)
        self.by_hand.setToolTip(
            "Make a link that is not in the list: click on regions in this slice and the next"
        )
        self.make_button = QPushButton("Make link")
        self.make_button.setToolTip("Make the link that is picked, in the place of the one asked about")
        self.paint = QPushButton("Paint")
        self.paint.setCheckable(True)
        self.paint.setToolTip("Paint or cut a region with napari's tools where no region fits")
        self.use_button = QPushButton("Use painted")
        self.use_button.setToolTip("Make a region of what is painted in this slice")
        grid.addWidget(self.retrain_button, 2, 3)
        grid.addWidget(self.by_hand, 3, 0)
        grid.addWidget(self.make_button, 3, 1)
        grid.addWidget(self.paint, 3, 2)
        grid.addWidget(self.use_button, 3, 3)
        grid.addWidget(self._mode, 4, 0, 1, 4)
        return grid

    def _all_actions(self) -> dict:
        desk = self.desk
        return {
            "accept": desk.accept, "reject": desk.reject, "don't know": desk.do_not_know, "skip": desk.skip,
            "back": desk.go_back, "next of object": desk.go_on_with_object, "undo": desk.undo,
            "redo": desk.redo, "neighbours": self._on_neighbours, "3-D": self._on_3d, "help": self._on_help,
            **{f"alternative {k}": partial(desk.choose, k) for k in range(1, 10)},
        }  # fmt: skip

    def _connect(self) -> None:
        desk = self.desk
        desk.opened.connect(self._on_opened)
        desk.closed.connect(self._on_closed)
        desk.listed.connect(self._on_listed)
        desk.asked.connect(self._on_asked)
        desk.previewed.connect(self._on_previewed)
        desk.said.connect(self.say)
        self.begin.wants_reconstruction.connect(self._on_reconstruct)
        self.begin.wants_session.connect(self.open_session)
        self.close_button.clicked.connect(desk.close)
        self.table.selectionModel().currentRowChanged.connect(self._on_row)
        self.table.horizontalHeader().sectionClicked.connect(self._on_title)
        self.order.activated.connect(self._on_wanted)
        self.kind.activated.connect(self._on_wanted)
        self.status.activated.connect(self._on_wanted)
        self.only_here.toggled.connect(self._on_wanted)
        self.only_object.clicked.connect(lambda: self._want_object(None))
        self.inspector.hovered.connect(desk.preview)
        self.inspector.chosen.connect(lambda k: desk.choose(k) if k else desk.accept())
        self.retrain_button.clicked.connect(desk.retrain)
        self.by_hand.toggled.connect(self._on_by_hand)
        self.make_button.clicked.connect(self._on_make_link)
        self.paint.toggled.connect(self._on_paint)
        self.use_button.clicked.connect(self._on_use_painted)
        self._keys.changed.connect(self._name_buttons)
        self._viewer.layers.events.removed.connect(self._on_layer_removed)
        self._viewer.layers.selection.events.active.connect(self._on_active_layer)
        self._viewer.dims.events.current_step.connect(self._on_slice)
        self._name_buttons()

    def _name_buttons(self) -> None:
        for name, button in self._buttons.items():
            button.setText(self._keys.title(name))

    # Beginning and ending

    def open_session(self, path: str) -> None:
        """Open a session, with its image."""
        self.desk.open(path)

    def on_layers(self) -> None:
        """Offer the layers that are there; while a session is open, each answer would look for files."""
        if self.desk.session is None:
            self.begin.offer(self.state.image)

    def _on_reconstruct(self) -> None:
        try:
            image, maps, out, overwrite = self.begin.wanted()
        except EmSegError as error:
            self.on_failed(error)
            return
        wanted, steps = self.begin.prediction(self.state.device), self.begin.steps()
        self._made_from = (out, self.begin.image_layer())

        def work(**options) -> pipeline.Assigned:
            return pipeline.reconstruct_to_session(
                image, out, maps=maps, wanted=wanted, steps=steps, overwrite=overwrite, **options
            )

        self.start("Reconstruction", work, layer=self.begin.image_layer(),
                   done=lambda _made: self.open_session(out))  # fmt: skip

    def last_words(self) -> str:
        """Say what cancelling has left."""
        return "Cancelled; nothing was written"

    def _on_opened(self) -> None:
        session = self.desk.session
        image = self._image_of_session()
        if image is None:
            self.desk.close()
            return
        self.state.image = image
        for layer in self._viewer.layers:
            layer.visible &= role_of(layer) not in _ON_THE_WAY
        self.canvas.begin(image, self.desk.sheet.objects)
        data = image.data[0] if image.multiscale else image.data
        self.inspector.show_image(data, lambda: tuple(float(v) for v in image.contrast_limits))
        self._title.setText(f"<b>{session.path.name}</b>")
        model = (session.reconstruction.model or {}).get("name", "")
        self._title.setToolTip(
            f"{session.path}{model and f', made with {model}'}\nThe best possible solution is the cheapest by "
            "the costs that the model gives; links of it can be wrong all the same"
        )
        self.say(_what_there_is(self.desk.sheet))
        add_recent(session.path)
        self._on_opened_or_closed()

    def _image_of_session(self) -> Image | None:
        """Return the layer that the session is about: that it was made from, one that is open, or a new one."""
        session = self.desk.session
        reference = session.references.get("raw")
        made_at, layer = self._made_from
        if made_at and Path(made_at).absolute() == session.path and layer in self._viewer.layers:
            return layer
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and layer.metadata.get("source") == (reference and reference.path):
                return layer
        try:
            volume = session.volume("raw")
        except EmSegError as error:
            self.on_failed(error)
            return None
        return add_volume(self._viewer, volume)

    def _on_closed(self) -> None:
        self.mesh.end()
        self.hand.end_link()
        self.hand.end_paint()
        self.canvas.end()
        self.inspector.show_image(None)
        self.inspector.show_scene(None)
        self.model.show(None)
        self.numbers.show_sheet(None)
        for button in (self.by_hand, self.paint, self._buttons["3-D"]):
            button.setChecked(False)
        self._on_opened_or_closed()

    def _on_opened_or_closed(self) -> None:
        is_open = self.desk.session is not None
        self.begin.setVisible(not is_open)
        self._review.setVisible(is_open)
        self._turn_keys()
        self._on_tools()

    def let_go(self) -> None:
        """Close the session, and follow the viewer no longer."""
        self.state.changed.disconnect(self.on_layers)
        self.state.put_away(self.desk)
        self.shortcuts.close()
        self._keys.changed.disconnect(self._name_buttons)
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self._viewer.layers.selection.events.active.disconnect(self._on_active_layer)
        self._viewer.dims.events.current_step.disconnect(self._on_slice)
        session, self.desk.session = self.desk.session, None
        self.work.close(None if session is None else session.close)
        self.mesh.end()
        self.hand.end_paint()
        self.canvas.end()

    # What is shown

    def _on_listed(self) -> None:
        sheet = self.desk.sheet
        if sheet is None:
            return
        self.model.show(sheet.listed)
        self.numbers.show_sheet(sheet)
        self.canvas.show_objects(sheet.objects)
        if self.mesh.is_shown and self.desk.scene is not None:
            self._make_mesh()
        self._mark_row()
        self._title.setText(
            f"<b>{self.desk.session.path.name}</b> · {len(sheet.listed):,} of {len(sheet.links):,} links · "
            f"{how_good(sheet.view.outcome.gap)}"
        )

    def _mark_row(self) -> None:
        listed = self.desk.sheet.listed
        rows = (listed.id == self.desk.link).nonzero()[0]
        self.table.select(int(rows[0]) if len(rows) else None)

    def _on_asked(self) -> None:
        desk = self.desk
        scene = desk.scene
        self.inspector.show_scene(scene)
        self.canvas.show(scene)
        if desk.sheet is not None:
            self._mark_row()
        self._question.setText(self._question_text())
        self._turn_keys()
        if self.mesh.is_shown and scene is not None:
            self._make_mesh()
        following = desk.next_link()
        if following != NO_LINK and desk.session is not None:
            QTimer.singleShot(0, lambda: self._prefetch(following))

    def _prefetch(self, link: int) -> None:
        sheet = self.desk.sheet
        if sheet is not None and (sheet.links.id == link).any():
            z = int(sheet.links.z[sheet.links.find(link)])
            self.work.put(lambda: self.inspector.prefetch(z))

    def _question_text(self) -> str:
        desk = self.desk
        if desk.link == NO_LINK or desk.sheet is None:
            return "" if desk.sheet is None else "No link in this list waits for an answer."
        links = desk.sheet.links
        row = links.find(desk.link)
        p_error = float(links.p_error[row])
        what = KINDS[links.kind[row]] if desk.scene is None else in_words(desk.scene.asked)
        certainty = f" · wrong with {p_error:.1%}" if p_error == p_error else ""
        return f"<b>Link {link_name(desk.link)}</b>: {what}{certainty}. Is this right?"

    def _on_previewed(self, choice: Choice | None) -> None:
        self.canvas.preview(choice)
        self.inspector.preview(choice)

    def on_busy(self, is_busy: bool) -> None:
        """Have nobody begin anew meanwhile."""
        self.begin.setEnabled(not is_busy)

    # What people do in the list

    def _on_row(self, current, _previous) -> None:
        listed = self.desk.sheet.listed if self.desk.sheet is not None else None
        if listed is not None and 0 <= current.row() < len(listed):
            link = int(listed.id[current.row()])
            if link != self.desk.link:
                self.desk.ask(link)

    def _on_title(self, column: int) -> None:
        order = order_of(column)
        if order is None:
            return
        wanted = self.desk.wanted
        self.desk.want(order=order, is_reversed=wanted.order == order and not wanted.is_reversed)
        place = self.order.findData(order)
        self.order.setCurrentIndex(place)

    def _on_wanted(self, *_: object) -> None:
        here = slice(None)
        if self.only_here.isChecked() and self.canvas.image is not None:
            z = self.canvas.slice_shown()
            here = slice(z, z + 1)
        order = self.order.currentData() or self.desk.wanted.order
        is_reversed = order == self.desk.wanted.order and self.desk.wanted.is_reversed
        self.desk.want(
            order=order, is_reversed=is_reversed, kinds=self.kind.currentData(),
            statuses=self.status.currentData(), z=here,
        )  # fmt: skip

    def _on_slice(self, _event: object = None) -> None:
        if self.only_here.isChecked() and self.desk.sheet is not None:
            self._on_wanted()

    def _want_object(self, label: int | None) -> None:
        self.only_object.setVisible(label is not None)
        self.only_object.setText(f"object {label} ✕")
        self.desk.want(label=label)

    # What people do in the canvas

    def wants_clicks(self) -> bool:
        """Whether a click finds the links of an object, or picks a region."""
        active = self._viewer.layers.selection.active
        return self.desk.sheet is not None and str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"

    def owns_clicks(self) -> bool:
        """Whether regions of a link are being picked."""
        return self.hand.is_linking

    def on_click(self, position: tuple[float, ...]) -> None:
        """List the links of the object there, or pick the region."""
        layer = self.canvas.layer(OBJECTS) or self.canvas.image
        place = None if layer is None else pixel_at(layer, position)
        if place is None:
            return
        if self.hand.is_linking:
            self.say(self.hand.pick(*place))
            return
        label = int(self.desk.sheet.objects[place])
        if not label:
            self.say("No object is here")
            return
        self._want_object(label)
        if self.desk.object_of(self.desk.link) != label:
            link = self.desk.next_link(label)
            if link != NO_LINK:
                self.desk.ask(link)
        self.say(f"Object {label}: {len(self.desk.sheet.listed)} links are listed")

    def _on_active_layer(self, _event: object = None) -> None:
        layer = self._viewer.layers.selection.active
        if self._followed is not None and hasattr(self._followed.events, "mode"):
            self._followed.events.mode.disconnect(self._turn_keys)
        self._followed = layer
        if layer is not None and hasattr(layer.events, "mode"):
            layer.events.mode.connect(self._turn_keys)
        self._turn_keys()

    def on_seen(self) -> None:
        """Answer no link that is not seen."""
        self._turn_keys()

    def _turn_keys(self, _event: object = None) -> None:
        """Give the keys to napari while one paints or sees another dock, and have them back afterwards."""
        layer = self._viewer.layers.selection.active
        mode = str(getattr(layer, "mode", "pan_zoom"))
        is_on = self.desk.session is not None and mode == "pan_zoom" and self.is_seen
        self.shortcuts.turn(is_on)
        if self.desk.session is None:
            self._mode.clear()
        elif is_on:
            self._mode.setText("Keys: review")
        elif not self.is_seen:
            self._mode.setText("Keys: napari's own, as another dock lies in front")
        else:
            self._mode.setText(f"Keys: napari's own, as the tool '{mode}' is active")

    def _on_layer_removed(self, event) -> None:
        if event.value is self.canvas.image:
            self.say("The image was removed, so its session was closed; nothing is lost")
            self.desk.close()
        elif self.desk.session is not None:
            if event.value.name in (OBJECTS, SOURCES, TARGETS):
                self.say(f"{event.value.name} was removed; close the session and open it again to have it back")
            self._on_tools()

    # Tools

    def _on_neighbours(self) -> None:
        button = self._buttons["neighbours"]
        if self.sender() is not button:
            button.setChecked(not button.isChecked())
        self.inspector.show_neighbours(button.isChecked())

    def _on_3d(self) -> None:
        if self.mesh.is_shown:
            self.mesh.end()
            self.canvas.show(self.desk.scene)
        elif self.desk.scene is None:
            self.say("No link is asked about that could be shown in 3-D")
        else:
            flat = [layer for layer in self._viewer.layers if not isinstance(layer, Image)]
            self.mesh.begin([*flat, self.canvas.image])
            self._make_mesh()
        self._buttons["3-D"].setChecked(self.mesh.is_shown)

    def _make_mesh(self) -> None:
        if self._mesh_job is not None:
            self._mesh_job.cancel()
        scene, objects = self.desk.scene, self.desk.sheet.objects
        coloured = coloured_objects(scene, objects)

        def done(mesh: Mesh | None) -> None:
            if self.mesh.is_shown and self.desk.scene is scene:
                self.mesh.show(mesh, scene, self.canvas.image)
                if mesh is not None:
                    self.canvas.look_at_all(mesh.vertices.min(axis=0), mesh.vertices.max(axis=0))

        job = self.work.put(lambda: mesh_of(objects, coloured, lambda: job.is_cancelled), done=done)
        self._mesh_job = job

    def _on_help(self) -> None:
        KeysDialog(self._keys, self).exec()

    def _on_by_hand(self, is_on: bool) -> None:
        if is_on:
            self.hand.begin_link()
            self.say(self.hand.words())
        else:
            self.hand.end_link()
        self._on_tools()

    def _on_make_link(self) -> None:
        self.hand.make_link(replaces=True)
        self.by_hand.setChecked(False)

    def _on_paint(self, is_on: bool) -> None:
        if is_on:
            self.hand.begin_paint()
            self.say("Paint or erase in this slice with napari's tools, then press Use painted")
        else:
            self.hand.end_paint()
        self._on_tools()

    def _on_use_painted(self) -> None:
        self.hand.make_region()
        self.paint.setChecked(self.hand.is_painting)

    def _on_tools(self) -> None:
        self.make_button.setEnabled(self.hand.is_linking)
        self.use_button.setEnabled(self.hand.is_painting)
        if not self.hand.is_painting and self.paint.isChecked():
            self.paint.setChecked(False)


def how_good(gap: float) -> str:
    """Say how far a solution may be from the best one; ``gap`` as in `Outcome`."""
    if gap < _NO_GAP:
        return "best possible solution found"
    return f"within {np.ceil(round(1000 * gap, 6)) / 10:.1f} % of the best possible"


def _what_there_is(sheet: Sheet) -> str:
    """Count objects, and the links of the list by what they are."""
    n, (_, _, _, begin, end, may_be_one) = len(sheet.links), np.bincount(sheet.links.kind, minlength=len(KINDS))
    parts = {"between slices": n - begin - end - may_be_one, "ends": begin + end,
             "pairs that may be one object": may_be_one}  # fmt: skip
    named = ", ".join(f"{n_such:,} {what}" for what, n_such in parts.items() if n_such)
    numbers = sheet.objects.numbers
    return f"{len(np.unique(numbers[numbers > 0])):,} objects; {n:,} links: {named}"
