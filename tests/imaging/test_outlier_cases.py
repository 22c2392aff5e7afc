"""The list of benchmark stacks: what they are called and that their molecules have the stated size."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from napari_pickbias.imaging.volumes import mass_centre_and_radius


@pytest.fixture(scope="module")
def outlier_cases() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "outlier_cases.py"
    spec = importlib.util.spec_from_file_location("outlier_cases", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_26_cases_six_of_them_held_out(outlier_cases: ModuleType) -> None:
    cases = outlier_cases.cases()
    assert len({case.name for case in cases}) == len(cases) == 26
    assert sum(case.held_out for case in cases) == 6
    assert {case.size for case in cases} == {33, 55}
    assert cases[0].radius_px == 9
    assert outlier_cases.Case("x", "5295", 1, "power", "white", 55).radius_px == pytest.approx(8.2 * 55 / 33)


@pytest.mark.parametrize("molecule", ["5295", "2479", "1832"])
def test_molecules_are_centred_and_as_large_as_stated(outlier_cases: ModuleType, data_dir: Path, molecule: str) -> None:
    volume = outlier_cases.load_molecule(molecule, data_dir)
    assert volume.shape == (85, 85, 85)
    centre, radius = mass_centre_and_radius(volume)
    assert np.abs(centre).max() < 0.6
    assert radius == pytest.approx(8.2 * 85 / 33, rel=0.03)
