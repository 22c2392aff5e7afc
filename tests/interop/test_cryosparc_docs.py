"""The tools script of the documentation does what it says, against the stub server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from interop.cryosparc_files import make_project  # noqa: E402
from interop.cryosparc_project import serve  # noqa: E402
from interop.cryosparc_stub import Stub  # noqa: E402

import napari_pickbias.runs.outliers as room  # noqa: E402

pytestmark = pytest.mark.interop
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with serve(make_project(tmp_path / "template"), tmp_path, monkeypatch) as server:
        yield server


def test_the_outliers_script(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "write_outlier_report", lambda *arguments: {})  # another test's matter
    text = (DOCS / "cryosparc/outliers_script.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    statements = [line for line in script.splitlines() if line and not line.startswith(("from", "import"))]
    assert len(statements) == 10
    script = script.replace("http://localhost:39000", stub.url).replace("shared=True", "shared=True, threads=1")
    exec(compile(script, "outliers_script.md", "exec"), {})
    assert stub.jobs["J3"]["status"] == "completed"
    kept = stub.output("J3", "particles_kept")
    np.testing.assert_array_equal(kept["uid"], np.load(stub.root / "J3/kept.cs")["uid"])
    assert 120 <= len(kept) <= 170  # of 150 particles among 225
    assert "location/center_x_frac" in kept.fields()
