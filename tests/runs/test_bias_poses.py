"""Refined particles for ``--poses``: their places, from files of RELION 3.1 and of 3.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.runs.bias_picks import read_poses

HEAD = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnAngleTilt #4\n"


def test_origins_in_angstrom_move_the_places(tmp_path: Path) -> None:
    file = tmp_path / "run_data.star"
    file.write_text(HEAD + "_rlnOriginXAngst #5\n_rlnOriginYAngst #6\nmics/m1.mrc 100 200 30 4 -6\n")
    places, tilt = read_poses(file, ["m1.mrc"], 2.0)["m1.mrc"]
    np.testing.assert_allclose(places, [[98, 203]])
    np.testing.assert_allclose(tilt, [30])


def test_origins_of_older_files_count_pixels_of_the_images(tmp_path: Path) -> None:
    """RELION 3.0: images of 4 Å a pixel (12 µm at 30,000), scaled down from micrographs of 2 Å."""
    file = tmp_path / "run_data.star"
    head = HEAD + "_rlnOriginX #5\n_rlnOriginY #6\n"
    file.write_text(head + "mics/m1.mrc 100 200 30 1.5 -2\n")
    np.testing.assert_allclose(read_poses(file, ["m1.mrc"], 2.0)["m1.mrc"][0], [[98.5, 202]])
    images = "_rlnImageName #7\n_rlnDetectorPixelSize #8\n_rlnMagnification #9\n"
    file.write_text(head + images + "mics/m1.mrc 100 200 30 1.5 -2 000001@p.mrcs 12 30000\n")
    np.testing.assert_allclose(read_poses(file, ["m1.mrc"], 2.0)["m1.mrc"][0], [[97, 204]])


def test_refined_particles_of_other_micrographs(tmp_path: Path) -> None:
    file = tmp_path / "run_data.star"
    file.write_text(HEAD + "mics/other.mrc 100 200 30\n")
    with pytest.raises(InputError, match="none of its particles lies on the micrographs given; give those refined"):
        read_poses(file, ["m1.mrc"], 2.0)
