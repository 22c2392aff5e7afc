"""Paths of atomic models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import splat_atoms
from napari_pickbias.records import Volume
from napari_pickbias.records.models import read_atoms
from napari_pickbias.runs.softmodes_models import are_models, model_path

SIZE, VOXEL, ORIGIN = 24, 3.0, (-30.0, 12.0, 5.0)


def pdb(path: Path, places: np.ndarray, element: str = "C") -> Path:
    lines = [
        f"ATOM  {number:5d}  CA  ALA A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2s}"
        for number, (x, y, z) in enumerate(places, 1)
    ]
    hydrogen = "ATOM  99999  HA  ALA A9999      99.000  99.000  99.000  1.00  0.00           H"
    path.write_text("\n".join(["REMARK", *lines, hydrogen, "ENDMDL", lines[0], "END"]))
    return path


def atoms() -> np.ndarray:
    centre = np.array(ORIGIN) + SIZE // 2 * VOXEL
    return np.round(centre + np.random.default_rng(3).normal(0, 8, (60, 3)), 3)


def moved() -> np.ndarray:
    return atoms() + np.array([4.5, 0, 0]) * (np.arange(60) < 20)[:, None]


def density(places: np.ndarray) -> np.ndarray:
    return splat_atoms(places - np.array(ORIGIN) - SIZE // 2 * VOXEL, SIZE, VOXEL, sigma_angstrom=VOXEL)


def test_atoms_of_the_first_model_without_hydrogens(tmp_path: Path) -> None:
    np.testing.assert_allclose(read_atoms(pdb(tmp_path / "a.pdb", atoms())), atoms())


def test_the_maps_of_a_path(tmp_path: Path) -> None:
    """A map that is the first model's density, five times as strong, beside something else, becomes the second's."""
    beside = np.zeros((SIZE, SIZE, SIZE), np.float32)
    beside[2, 2, 2] = 1.0
    volume = Volume(5 * density(atoms()) + beside, VOXEL, ORIGIN)
    models = [pdb(tmp_path / "open.pdb", atoms()), pdb(tmp_path / "closed.PDB", moved())]
    assert are_models(models)
    (last,) = model_path(volume, models)
    np.testing.assert_allclose(last.data, 5 * density(moved()) + beside, atol=1e-5)
    assert (last.voxel_size_angstrom, last.origin_angstrom) == (VOXEL, ORIGIN)


def test_maps_are_not_models() -> None:
    assert not are_models([])
    assert not are_models(["a.mrc", "b.map"])


@pytest.mark.parametrize("paths", [["a.pdb"], ["a.mrc", "b.pdb"]])
def test_too_few_models(paths: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        are_models(paths)
    assert str(caught.value) == (
        f"--path-to {paths[-1]}: a path of models needs two of them or more, and no maps: the first is the one that "
        "was fitted into the map"
    )


def test_a_model_elsewhere(tmp_path: Path) -> None:
    models = [pdb(tmp_path / "a.pdb", atoms() + 500), pdb(tmp_path / "b.pdb", moved())]
    with pytest.raises(InputError) as caught:
        model_path(Volume(density(atoms()), VOXEL, ORIGIN), models)
    assert str(caught.value) == (
        f"--path-to {models[0]}: does not lie in the map (correlation 0.00); fit it into the map first, and give the "
        "models in the map's frame"
    )


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"gone\.pdb: cannot be read \(No such file or directory\); give a model in PDB"
    ):
        read_atoms(tmp_path / "gone.pdb")
    (tmp_path / "empty.pdb").write_text("REMARK\n")
    with pytest.raises(InputError, match=r"empty\.pdb: holds no ATOM records; give a model in PDB format"):
        read_atoms(tmp_path / "empty.pdb")
    (tmp_path / "odd.pdb").write_text("ATOM      1  CA  ALA A   1    nonsense\n")
    with pytest.raises(InputError, match=r"odd\.pdb: line 1 has no coordinates in columns 31 to 54; give a model in"):
        read_atoms(tmp_path / "odd.pdb")
