"""Soft modes: which parts of a map and which poses its images leave uncertain (docs/softmodes.md)."""

from napari_pickbias.softmodes.modes import SoftModes, soft_modes

__all__ = ["SoftModes", "soft_modes"]
