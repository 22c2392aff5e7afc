"""The outlier widget's fields: what is run, on what, into which folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)

from napari_pickbias.errors import InputError
from napari_pickbias.gui.outlier_work import Earlier, Order
from napari_pickbias.gui.preferences import preference, threads
from napari_pickbias.jobs.outlier_parameters import OutlierParameters

FILTER = "Particles (*.star *.cs *.mrcs *.mrc *.st);;All files (*)"
FROM_DATA = "from the data"
EARLIER: dict[str, Earlier] = {"keep them: stop": "keep", "go on (resume)": "resume", "replace them": "replace"}


class OutlierForm(QWidget):
    """The fields; :meth:`order` copies them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = QLineEdit(placeholderText="particles.star, .cs or .mrcs")
        self.browse = QPushButton("Browse…")
        self.from_layer = QPushButton("From layer", toolTip="Take the file that the selected layer was opened from")
        self.radius = _spin(0, 2000, 1, " Å", FROM_DATA)
        self.radius.setValue(float(preference("particles", "radius")))
        self.method = _choice("method")
        self.contrast = _choice("contrast")
        self.false_keep = _spin(0.01, 49, 2, " %")
        self.false_keep.setSingleStep(0.5)
        self.false_keep.setValue(float(preference("outliers", "false_keep_percent")))
        self.pixel_size = _spin(0, 100, 4, " Å", FROM_DATA)
        self.out = QLineEdit(placeholderText="folder for the results")
        self.browse_out = QPushButton("Browse…")
        self.earlier = QComboBox(toolTip="What to do when the folder holds results already")
        self.earlier.addItems(list(EARLIER))
        for field, name in ((self.radius, "radius"), (self.method, "method"), (self.contrast, "contrast")):
            field.setToolTip(_help(name))
        self.false_keep.setToolTip(_help("false_keep_rate"))
        self.pixel_size.setToolTip(_help("pixel_size"))

        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Particles", self.source)
        form.addRow("", _side_by_side(self.browse, self.from_layer))
        form.addRow("Particle radius", self.radius)
        form.addRow("Contrast", self.contrast)
        form.addRow("Method", self.method)
        form.addRow("False keep rate", self.false_keep)
        form.addRow("Pixel size", self.pixel_size)
        form.addRow("Output folder", _side_by_side(self.out, self.browse_out))
        form.addRow("Earlier results", self.earlier)

        self._offered = ""
        self.source.textChanged.connect(self._offer_folder)
        self.browse.clicked.connect(self._browse_source)
        self.browse_out.clicked.connect(self._browse_out)

    def set_source(self, path: str | Path) -> None:
        """Enter a particle file."""
        self.source.setText(str(path))

    def order(self) -> Order:
        """Return a copy of all fields.

        Raises
        ------
        InputError
            When no particle file or no folder is named.
        """
        source, out = self.source.text().strip(), self.out.text().strip()
        if not source:
            raise InputError("--particles: no file is named; choose a particle file, or a layer opened from one")
        if not out:
            raise InputError("--out: no folder is named; choose where the results go")
        parameters = OutlierParameters(
            radius=self.radius.value() or None,
            method=self.method.currentText(),
            contrast=self.contrast.currentText(),
            false_keep_rate=self.false_keep.value() / 100,
            pixel_size=self.pixel_size.value() or None,
        )
        return Order(
            source=Path(source).expanduser().absolute(),
            out=Path(out).expanduser().absolute(),
            parameters=parameters,
            earlier=EARLIER[self.earlier.currentText()],
            threads=threads(),
            lazy=bool(preference("particles", "lazy")),
        )

    def choose_earlier(self, what: Earlier) -> None:
        """Preset what happens to results that are there already."""
        self.earlier.setCurrentText(next(text for text, value in EARLIER.items() if value == what))

    def _offer_folder(self, text: str) -> None:
        """Name a folder beside the particles, unless the user chose one."""
        if self.out.text() == self._offered:
            path = Path(text.strip())
            self._offered = str(path.with_name(f"{path.stem}_outliers")) if path.name else ""
            self.out.setText(self._offered)

    def _browse_source(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Particles", self.source.text(), FILTER)
        if path:
            self.set_source(path)

    def _browse_out(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Output folder", self.out.text())
        if path:
            self.out.setText(path)


def _help(name: str) -> str:
    return OutlierParameters.model_fields[name].description or ""


def _choice(name: str) -> QComboBox:
    box = QComboBox()
    field = OutlierParameters.model_fields[name]
    box.addItems([str(value) for value in get_args(field.annotation)])
    box.setCurrentText(str(field.default))
    return box


def _spin(low: float, high: float, decimals: int, unit: str, at_lowest: str = "") -> QDoubleSpinBox:
    spin = QDoubleSpinBox(decimals=decimals, minimum=low, maximum=high, suffix=unit)
    if at_lowest:
        spin.setSpecialValueText(at_lowest)
    spin.setKeyboardTracking(False)
    return spin


def _side_by_side(*widgets: Any) -> QWidget:
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget)
    return holder
