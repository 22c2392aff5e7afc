"""RELION STAR files and projects to records and back; External job programs."""
