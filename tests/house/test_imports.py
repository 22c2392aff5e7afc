"""Arrows point down only, and nothing outside gui/ loads Qt or napari."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "napari_pickbias"

SCIENCE = {"matching", "bias", "outliers", "softmodes", "pickfree"}
BASE = {"imaging", "records", "errors"}
ALLOWED = {
    "errors": set(),
    "imaging": {"errors"},
    "records": {"errors", "imaging"},
    **dict.fromkeys(SCIENCE, BASE),
    "bias": BASE | {"matching"},
    "jobs": BASE | SCIENCE,
    "report": BASE | SCIENCE | {"jobs"},
    "runs": BASE | {"jobs", "report"},
    "cli": BASE | {"jobs", "report", "runs"},
    "gui": BASE | {"jobs", "report", "runs"},
    "pickbias_relion": BASE | {"jobs", "report", "runs"},
    "pickbias_cryosparc": BASE | {"jobs", "report", "runs"},
}
GUI_LIBRARIES = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "superqt", "vispy", "magicgui"}


def room_of(path: Path) -> str:
    """Return the room a source file belongs to."""
    if path.is_relative_to(PACKAGE):
        first = path.relative_to(PACKAGE).parts[0]
        return first.removesuffix(".py")
    return path.relative_to(SRC / "adapters").parts[0]


def imported_names(path: Path) -> set[str]:
    """Return the dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SOURCES = sorted(p for p in SRC.rglob("*.py") if "__pycache__" not in p.parts)


def test_every_source_file_lies_in_a_known_room() -> None:
    assert len(SOURCES) > 10
    assert {room_of(p) for p in SOURCES} - {"__init__", "__main__"} <= set(ALLOWED)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down_only(path: Path) -> None:
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] == "napari_pickbias" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] == room or parts[1] in ALLOWED[room], f"{room} must not import {name}"
        if parts[0] in {"pickbias_relion", "pickbias_cryosparc"}:
            assert parts[0] == room, f"{room} must not import {name}; adapters are found through entry points"
        if parts[0] in GUI_LIBRARIES:
            assert room == "gui", f"{room} must not import {name}"


def test_nothing_outside_gui_loads_qt_or_napari() -> None:
    modules = []
    for path in SOURCES:
        if room_of(path) in {"gui", "__main__"}:
            continue
        base = SRC if path.is_relative_to(PACKAGE) else SRC / "adapters"
        parts = path.relative_to(base).with_suffix("").parts
        modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted(set({sorted(GUI_LIBRARIES)!r}) & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
