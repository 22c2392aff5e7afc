"""What travels between the rooms: plain dataclasses over arrays, lazy image stacks, and the sources they come from."""

from napari_pickbias.records.images import MemoryImages, StackImages
from napari_pickbias.records.mrc import MrcHeader, StackWriter, open_data, read_header, write_mrc
from napari_pickbias.records.particles import CtfParameters, Images, Particles, Poses
from napari_pickbias.records.sources import ParticleSource, open_particles
from napari_pickbias.records.volume import Micrographs, Templates, Volume, read_micrograph, read_volume

__all__ = [
    "CtfParameters",
    "Images",
    "MemoryImages",
    "Micrographs",
    "MrcHeader",
    "ParticleSource",
    "Particles",
    "Poses",
    "StackImages",
    "StackWriter",
    "Templates",
    "Volume",
    "open_data",
    "open_particles",
    "read_header",
    "read_micrograph",
    "read_volume",
    "write_mrc",
]
