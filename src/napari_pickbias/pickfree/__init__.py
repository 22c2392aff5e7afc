"""Reconstruction without picking: approximate expectation-maximisation straight from micrographs."""

from napari_pickbias.pickfree.alignment import Alignment, align
from napari_pickbias.pickfree.chain import Model, Options, Record, Stage, State
from napari_pickbias.pickfree.reconstruct import (
    Reconstruction,
    default_stages,
    half_set_fsc,
    paper_options,
    paper_stages,
    reconstruct,
)

__all__ = [
    "Alignment",
    "Model",
    "Options",
    "Reconstruction",
    "Record",
    "Stage",
    "State",
    "align",
    "default_stages",
    "half_set_fsc",
    "paper_options",
    "paper_stages",
    "reconstruct",
]
