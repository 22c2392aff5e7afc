"""Editable install, wheel and sdist: each imports the package and both adapters and carries the manifest."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = "src/napari_pickbias/napari.yaml"
PROBE = """
import importlib.resources, json
import napari_pickbias, pickbias_relion, pickbias_cryosparc
from pickbias_relion import open_particles, read_particles, write_subset
from pickbias_cryosparc import open_particles, read_particles, write_subset
files = importlib.resources.files("napari_pickbias")
template = any(p.name.endswith(".j2") for p in (files / "report/templates").iterdir())
modules = [m.__file__ for m in (napari_pickbias, pickbias_relion, pickbias_cryosparc)]
print(json.dumps([*modules, (files / "napari.yaml").read_text()[:22], template]))
"""


def probe(environment: dict[str, str], cwd: Path) -> list[str]:
    import json

    run = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, env={**os.environ, **environment}, cwd=cwd
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel made from it: what a release uploads."""
    out = tmp_path_factory.mktemp("dist")
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return out


def test_the_top_level_manifest_is_a_link_to_the_package_s() -> None:
    link = ROOT / "napari.yaml"
    assert link.readlink() == Path(MANIFEST)
    assert link.read_text() == (ROOT / MANIFEST).read_text()


def test_the_editable_install_imports_everything(tmp_path: Path) -> None:
    found = probe({}, tmp_path)
    assert found[0] == str(ROOT / "src/napari_pickbias/__init__.py")
    assert found[3:] == ["name: napari-pickbias\n", True]


def test_the_wheel_imports_everything(built: Path, tmp_path: Path) -> None:
    wheel = next(built.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "napari_pickbias/napari.yaml" in names
    assert "napari_pickbias/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "adapters/"))]
    # PYTHONPATH goes before the editable install.
    found = probe({"PYTHONPATH": str(tmp_path / "site")}, tmp_path)
    assert all(path.startswith(str(tmp_path / "site")) for path in found[:3])
    assert found[3:] == ["name: napari-pickbias\n", True]


def test_the_wheel_declares_its_doors(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        text = archive.read(points).decode()
        metadata = archive.read(points.replace("entry_points.txt", "METADATA")).decode()
    for line in (
        "pickbias = napari_pickbias.cli:main",
        "pickbias_relion_outliers = pickbias_relion.external_outliers:main",
        "napari-pickbias = napari_pickbias:napari.yaml",
        "star = pickbias_relion:open_particles",
        "cs = pickbias_cryosparc:open_particles",
        "pickbias-cryosparc = pickbias_cryosparc.live:main",
        "cs = pickbias_cryosparc.convert:convert",
    ):
        assert line in text
    assert "Classifier: Framework :: napari" in metadata
    assert "License-Expression: BSD-3-Clause" in metadata
    # Neither Qt nor a GPL library may come with a plain install.
    plain = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert not [line for line in plain if any(bad in line.lower() for bad in ("qt", "napari", "ducc0", "cryosparc"))]


def test_the_sdist_carries_the_sources(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {MANIFEST, "napari.yaml", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names
    assert {"src/adapters/pickbias_relion/__init__.py", "src/adapters/pickbias_cryosparc/__init__.py"} <= names
    assert "tests/conftest.py" in names


def test_every_import_of_the_package_is_a_declared_dependency() -> None:
    """A library that only another dependency brings along would be missing one day."""
    import ast

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [
        *project["dependencies"],
        *project["optional-dependencies"]["gui"],
        *project["optional-dependencies"]["cryosparc"],
    ]
    declared = {name.split(">")[0].split("[")[0].strip().lower().replace("-", "_") for name in names}
    # Distributions named otherwise than their module.
    renamed = {"cryosparc_tools": "cryosparc", "pyyaml": "yaml", "scikit_image": "skimage"}
    known = {renamed.get(name, name) for name in declared} | {
        "pydantic_core",
        "napari_pickbias",
        "pickbias_relion",
        "pickbias_cryosparc",
    }
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            tops = []
            if isinstance(node, ast.Import):
                tops = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                tops = [node.module.split(".")[0]]
            for top in tops:
                assert top in known or top in sys.stdlib_module_names, f"{path} imports {top}, which is not declared"
