"""The napari door: the only room that imports napari or Qt."""
