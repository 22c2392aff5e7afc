"""The ``pickbias`` program."""

from napari_pickbias.cli.main import main

__all__ = ["main"]
