"""New STAR files: read back to the same numbers, here and by another reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from napari_pickbias.errors import InputError
from napari_pickbias.records import CtfParameters, Poses
from pickbias_relion.star import open_star, version_number
from pickbias_relion.star_columns import read_columns
from pickbias_relion.star_write import loop_text, optics_columns, write_particles, write_tables


def ctf_of(n: int, voltage: np.ndarray | None = None) -> CtfParameters:
    return CtfParameters(
        defocus_u_angstrom=np.linspace(10000, 20000, n),
        defocus_v_angstrom=np.linspace(9000, 19000, n),
        defocus_angle_deg=np.linspace(-90, 90, n),
        voltage_kv=np.full(n, 300.0) if voltage is None else voltage,
        spherical_aberration_mm=np.full(n, 2.7),
        amplitude_contrast=np.full(n, 0.1),
        phase_shift_deg=np.zeros(n),
    )


def test_the_form_of_a_block() -> None:
    text = loop_text("particles", {"rlnImageName": np.array(["1@a.mrcs", "2@b c.mrcs"]), "rlnX": np.array([0.5, 1e-8])})
    assert text == (
        b'\n# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_rlnX #2\n1@a.mrcs 0.5\n"2@b c.mrcs" 1e-08\n'
    )


@pytest.mark.parametrize("columns", [{}, {"a": np.zeros(0)}, {"a": np.zeros(2), "b": np.zeros(3)}])
def test_relion_cannot_read_an_empty_loop_so_none_is_written(columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="data_x needs columns of one length above zero"):
        loop_text("x", columns)


def test_particles_read_back(tmp_path: Path) -> None:
    path = tmp_path / "particles.star"
    rng = np.random.default_rng(2)
    names = [f"{k + 1:06d}@particles.mrcs" for k in range(5)]
    poses = Poses(rng.uniform(-180, 180, (5, 3)), rng.normal(size=(5, 2)))
    ctf = ctf_of(5)
    write_particles(
        path, names, 1.25, 64, ctf=ctf, poses=poses, micrograph=["m 1.mrc"] * 5,
        coordinates_px=rng.uniform(0, 4096, (5, 2)), extra={"rlnClassNumber": np.arange(5)},
    )  # fmt: skip
    star = open_star(path)
    assert [t.name for t in star.tables] == ["data_optics", "data_particles"]
    assert {version_number(t) for t in star.tables} == {30001}
    columns = read_columns(
        star,
        star.rows(),
        floats=["rlnAngleRot", "rlnOriginYAngst", "rlnDefocusU"],
        integers=["rlnClassNumber", "rlnOpticsGroup"],
        texts=["rlnMicrographName"],
    )
    np.testing.assert_array_equal(columns.floats["rlnAngleRot"], poses.euler_deg[:, 0])
    np.testing.assert_array_equal(columns.floats["rlnOriginYAngst"], poses.shifts_angstrom[:, 1])
    np.testing.assert_array_equal(columns.floats["rlnDefocusU"], ctf.defocus_u_angstrom)
    assert columns.integers["rlnClassNumber"].tolist() == [0, 1, 2, 3, 4]
    assert set(columns.texts["rlnMicrographName"].values) == {b"m 1.mrc"}
    frames = starfile.read(path)
    assert frames["optics"]["rlnImagePixelSize"].tolist() == [1.25]
    assert frames["optics"]["rlnImageSize"].tolist() == [64]
    np.testing.assert_array_equal(frames["particles"]["rlnAngleTilt"], poses.euler_deg[:, 1])
    assert frames["particles"]["rlnImageName"].tolist() == names


def test_optics_groups_in_order_of_appearance() -> None:
    voltage = np.array([300.0, 300, 200, 300, 200])
    columns, group = optics_columns("rlnImagePixelSize", [1.0, 1, 1, 2, 1], ctf_of(5, voltage), 5)
    assert group.tolist() == [1, 1, 2, 3, 2]
    assert columns["rlnOpticsGroup"].tolist() == [1, 2, 3]
    assert columns["rlnImagePixelSize"].tolist() == [1, 1, 2]
    assert columns["rlnVoltage"].tolist() == [300, 200, 300]


def test_without_ctf_relion_still_gets_the_optics_it_demands() -> None:
    columns, group = optics_columns("rlnMicrographPixelSize", 3.0, None, 2)
    assert group.tolist() == [1, 1]
    assert [columns[x].tolist() for x in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")] == [
        [300.0],
        [2.7],
        [0.1],
    ]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: its folder does not exist"):
        write_tables(tmp_path / "absent" / "f.star", [b"x"])
