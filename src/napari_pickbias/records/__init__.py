"""What travels between the rooms: plain dataclasses over arrays, lazy image stacks, and the sources they come from."""

from napari_pickbias.records.particles import CtfParameters, Images, Particles, Poses
from napari_pickbias.records.sources import ParticleSource, open_particles

__all__ = ["CtfParameters", "Images", "ParticleSource", "Particles", "Poses", "open_particles"]
