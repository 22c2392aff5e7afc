"""cryoSPARC .cs files and job folders to records and back."""

from pickbias_cryosparc.source import open_particles, read_particles, write_subset

__all__ = ["open_particles", "read_particles", "write_subset"]
