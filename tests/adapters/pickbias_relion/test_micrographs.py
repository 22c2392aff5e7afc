"""Lists of micrographs of each RELION version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.records import CtfParameters
from pickbias_relion.micrographs import read_micrographs, write_micrographs
from pickbias_relion.star import open_star


def star_file(folder: Path, text: str) -> Path:
    path = folder / "micrographs.star"
    path.write_text(text)
    return path


def test_relion_31(tmp_path: Path) -> None:
    text = (
        "# version 30001\ndata_optics\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n_rlnMicrographPixelSize #3\n"
        "_rlnMicrographOriginalPixelSize #4\n_rlnVoltage #5\n_rlnSphericalAberration #6\n_rlnAmplitudeContrast #7\n"
        "a 1 2.0 1.0 300 2.7 0.1\nb 2 3.0 1.5 200 1.4 0.07\n\ndata_micrographs\nloop_\n_rlnMicrographName #1\n"
        "_rlnOpticsGroup #2\n_rlnDefocusU #3\n_rlnDefocusV #4\n_rlnDefocusAngle #5\n"
        "x/m1.mrc 2 100 90 5\nm2.mrc 1 200 190 6\n"
    )
    micrographs = read_micrographs(star_file(tmp_path, text))
    assert len(micrographs) == 2
    assert micrographs.names.tolist() == ["x/m1.mrc", "m2.mrc"]
    assert micrographs.pixel_size_angstrom.tolist() == [3.0, 2.0]
    assert micrographs.optics_group.tolist() == [1, 0]
    assert micrographs.optics_group_names == ("a", "b")
    assert micrographs.ctf is not None
    assert micrographs.ctf.voltage_kv.tolist() == [200, 300]
    assert micrographs.ctf.defocus_u_angstrom.tolist() == [100, 200]
    assert micrographs.notes == ()


def test_relion_30(tmp_path: Path) -> None:
    text = (
        "data_\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnVoltage #3\n_rlnSphericalAberration #4\n"
        "_rlnAmplitudeContrast #5\n_rlnMagnification #6\n_rlnDetectorPixelSize #7\nm.mrc 1000 300 2 0.1 100000 5\n"
    )
    micrographs = read_micrographs(star_file(tmp_path, text))
    np.testing.assert_allclose(micrographs.pixel_size_angstrom, [0.5], rtol=1e-15)
    assert micrographs.ctf is not None
    assert micrographs.ctf.defocus_v_angstrom.tolist() == [1000]


def test_names_and_coordinates_only(tmp_path: Path) -> None:
    path = star_file(tmp_path, "data_\nloop_\n_rlnMicrographName #1\nm1.mrc\nm1.mrc\nm2.mrc\n")
    with pytest.raises(InputError) as caught:
        read_micrographs(path)
    assert str(caught.value) == (
        f"{path}: no pixel size: data_ and data_optics have neither rlnMicrographPixelSize, rlnImagePixelSize, "
        "rlnMicrographOriginalPixelSize, rlnPixelSize nor rlnDetectorPixelSize with rlnMagnification; give --pixel-size"
    )
    micrographs = read_micrographs(path, 1.5)
    assert micrographs.names.tolist() == ["m1.mrc", "m1.mrc", "m2.mrc"]
    assert micrographs.pixel_size_angstrom.tolist() == [1.5] * 3
    assert micrographs.ctf is None


def test_a_file_without_micrographs(tmp_path: Path) -> None:
    for text in ("data_\nloop_\n_rlnCoordinateX #1\n1\n", "data_\nloop_\n_rlnMicrographName #1\n", ""):
        with pytest.raises(InputError, match=r"lists no micrographs; give a micrographs\.star with rlnMicrographName"):
            read_micrographs(star_file(tmp_path, text), 1.0)


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "m1.mrc").touch()
    path = tmp_path / "CtfFind" / "job003" / "micrographs_ctf.star"
    path.parent.mkdir(parents=True)
    path.write_text("data_\nloop_\n_rlnMicrographName\nm1.mrc\n")
    assert read_micrographs(path, 1.0).paths() == [tmp_path / "m1.mrc"]
    path.write_text("data_\nloop_\n_rlnMicrographName\nm1.mrc\nm2.mrc\n")
    with pytest.raises(InputError) as caught:
        read_micrographs(path, 1.0).paths()
    assert str(caught.value) == (
        f"{path}: names the micrograph 'm2.mrc', which is not there; looked in {path.parent} and every folder "
        f"above it, and {Path.cwd()}; run in the RELION project's folder, or put the micrographs back"
    )


@pytest.mark.parametrize("with_ctf", [True, False])
def test_written_lists_are_read_back(tmp_path: Path, with_ctf: bool) -> None:
    ctf = CtfParameters(*np.random.default_rng(0).uniform(1, 2, (7, 3))) if with_ctf else None
    path = tmp_path / "micrographs.star"
    write_micrographs(path, ["a.mrc", "b c.mrc", "d.mrc"], 1.25, ctf)
    micrographs = read_micrographs(path)
    assert micrographs.names.tolist() == ["a.mrc", "b c.mrc", "d.mrc"]
    assert micrographs.pixel_size_angstrom.tolist() == [1.25] * 3
    assert (micrographs.ctf is None) == (ctf is None)
    if ctf is not None and micrographs.ctf is not None:
        for name in vars(ctf):
            np.testing.assert_array_equal(getattr(micrographs.ctf, name), getattr(ctf, name))
    optics = open_star(path).find("optics")
    assert optics is not None
    assert "rlnMicrographOriginalPixelSize" in optics.labels


@pytest.mark.parametrize(
    ("name", "n", "pixel_size", "ctf"),
    [
        ("star/relion31/Python-Scripts__micrographs_ctf.star", 26, 3.2, True),
        ("particles/betagal_10204/CtfFind/job005/micrographs_ctf.star", 24, 0.885, True),
        ("particles/betagal_10204/MotionCorr/job002/corrected_micrographs.star", 24, 0.885, False),
    ],
)
def test_real_lists(data_dir: Path, name: str, n: int, pixel_size: float, ctf: bool) -> None:
    micrographs = read_micrographs(data_dir / name)
    assert len(micrographs) == n
    assert micrographs.pixel_size_angstrom.tolist() == [pixel_size] * n
    assert (micrographs.ctf is not None) == ctf
