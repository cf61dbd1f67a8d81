"""Patches: a part of a slice kept aside: the image with what is true, the first prediction, the latest one."""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QImage, QPainter, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_em_seg.predict.watch import Picture
from napari_em_seg.widgets.colours import SOURCE, rgb

__all__ = ["Patches"]

_TITLES = ("image and labels", "at first", "now")


class Patches(QWidget):
    """Three pictures side by side."""

    def __init__(self) -> None:
        super().__init__()
        self._images: list[QImage] = []
        self.setMinimumHeight(8 * self.fontMetrics().lineSpacing())
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip("A part of a slice that is kept aside: the image with the outlines of its labels, what "
                        "was predicted of it at the first validation, and at the latest")  # fmt: skip

    @property
    def n_pictures(self) -> int:
        """How many there are to see: none before the first validation, then three."""
        return len(self._images)

    def clear(self) -> None:
        """Begin anew."""
        self._images = []
        self.update()

    def show_picture(self, picture: Picture) -> None:
        """Show what is predicted now."""
        now = _grey(255 * picture.predicted)
        first = self._images[1] if self._images else now
        self._images = [_outlined(picture.image, picture.truth), first, now]
        self.update()

    def paintEvent(self, _event: object) -> None:  # noqa: N802
        """Draw them."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        line, width = self.fontMetrics().lineSpacing() + 2, self.width() / 3
        for place, image in enumerate(self._images):
            side = min((width - 6) / image.width(), (self.height() - line) / image.height())
            left = place * width + (width - side * image.width()) / 2
            painter.drawImage(QRectF(left, line, side * image.width(), side * image.height()), image)
            painter.drawText(
                QRectF(place * width, 0, width, line), Qt.AlignmentFlag.AlignHCenter, _TITLES[place]
            )
        painter.end()


def _grey(levels: NDArray[np.generic]) -> QImage:
    plane = np.ascontiguousarray(np.clip(levels, 0, 255), np.uint8)
    height, width = plane.shape
    return QImage(plane.data, width, height, width, QImage.Format.Format_Grayscale8).copy()


def _outlined(image: NDArray[np.generic], truth: NDArray[np.generic]) -> QImage:
    """Return an image whose contrast is stretched, with lines where the labels change."""
    low, high = np.percentile(image, (0.5, 99.5))
    grey = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) * 255
    edge = np.zeros(truth.shape, bool)
    edge[1:] |= truth[1:] != truth[:-1]
    edge[:, 1:] |= truth[:, 1:] != truth[:, :-1]
    coloured = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    coloured[edge] = rgb(SOURCE)
    height, width = edge.shape
    return QImage(
        np.ascontiguousarray(coloured).data, width, height, 3 * width, QImage.Format.Format_RGB888
    ).copy()
