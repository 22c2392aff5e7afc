"""Picking bias, junk picks, map trust and pick-free reconstruction for single-particle cryo-EM."""

__version__ = "0.1.0.dev0"
