"""How micrographs are shown: low-pass, contrast, inverted. The files and the picks know nothing of it."""

from __future__ import annotations

from napari.layers import Image
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QVBoxLayout, QWidget

from napari_pickbias.gui.docked import row_of
from napari_pickbias.gui.micrograph_stack import LIMITS, MicrographStack


class DisplayPanel(QWidget):
    """Low-pass in Å, contrast in standard deviations, and light for dark."""

    def __init__(self) -> None:
        super().__init__()
        self.layer: Image | None = None
        self.lowpass = QDoubleSpinBox(
            maximum=500, decimals=0, suffix=" Å", specialValueText="off", keyboardTracking=False
        )
        self.lowpass.setToolTip("Finest detail shown; finding particles by eye is easiest at 20 to 40 Å")
        self.sigma = QDoubleSpinBox(minimum=0.5, maximum=20, decimals=1, singleStep=0.5, suffix=" σ")
        self.sigma.setValue(LIMITS[1])
        self.sigma.setToolTip("Black and white lie so many standard deviations from the middle")
        self.invert = QCheckBox("invert", toolTip="Show dark as light")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(row_of(QLabel("Low-pass"), self.lowpass, self.invert, stretch=1))
        column.addWidget(row_of(QLabel("Contrast"), self.sigma, stretch=1))
        self.lowpass.valueChanged.connect(self.filter)
        self.sigma.valueChanged.connect(self.apply)
        self.invert.toggled.connect(self.apply)

    def take(self, layer: Image | None) -> None:
        """Rule a layer of micrographs; None disables the panel."""
        ours = layer is not None and isinstance(layer.data, MicrographStack)
        self.layer = layer if ours else None
        self.setEnabled(ours)
        if ours:
            self.filter()
            self.apply()

    def filter(self, *_ignored: object) -> None:
        """Low-pass what is shown."""
        if self.layer is None:
            return
        stack, pixel = self.layer.data, float(self.layer.scale[-1])
        if stack.set_lowpass(self.lowpass.value() / pixel):
            self.layer.refresh()

    def apply(self, *_ignored: object) -> None:
        """Set contrast and colours."""
        if self.layer is not None:
            self.layer.contrast_limits = (-self.sigma.value(), self.sigma.value())
            self.layer.colormap = "gray_r" if self.invert.isChecked() else "gray"
