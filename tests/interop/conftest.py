"""Fixtures of the tests that drive real programs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from interop.relion_project import RelionProject


@pytest.fixture
def relion_project(tmp_path: Path) -> Callable[[str], RelionProject]:
    """Return a function that makes an empty project in a folder of the given name."""
    if shutil.which("relion_pipeliner") is None:
        pytest.skip("RELION is not installed: no relion_pipeliner on the PATH (Debian: apt install relion)")

    def make(name: str) -> RelionProject:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "default_pipeline.star").write_text(
            "data_pipeline_general\n\n_rlnPipeLineJobCounter 1\n\n", encoding="utf-8"
        )
        (directory / ".gui_projectdir").touch()
        scripts = str(Path(sys.executable).parent)
        path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
        return RelionProject(directory, os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"})

    return make
