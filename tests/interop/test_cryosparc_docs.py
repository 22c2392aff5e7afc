"""The tools scripts of the documentation do what they say, against the stub server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import starfile

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from interop.cryosparc_files import make_project, make_refinement  # noqa: E402
from interop.cryosparc_project import serve  # noqa: E402
from interop.cryosparc_scenes import SIDE, make_pickfree_scene, make_picking_scene  # noqa: E402
from interop.cryosparc_stub import Stub  # noqa: E402

import napari_pickbias.runs.bias as bias_room  # noqa: E402
import napari_pickbias.runs.outliers as outliers_room  # noqa: E402
import napari_pickbias.runs.pick as pick_room  # noqa: E402
import napari_pickbias.runs.pickfree as pickfree_room  # noqa: E402
import napari_pickbias.runs.softmodes as softmodes_room  # noqa: E402
from napari_pickbias.records import read_volume  # noqa: E402

pytestmark = pytest.mark.interop
DOCS = Path(__file__).resolve().parents[2] / "docs/cryosparc"
SCENES = {
    "outliers": make_project,
    "softmodes": make_refinement,
    "pick": make_picking_scene,
    "pickfree": make_pickfree_scene,
    "bias": make_picking_scene,
}


@pytest.fixture
def stub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Serve the project that the script is about; reports are other tests' matter."""
    SCENES[request.param](tmp_path / "template")
    rooms = {bias_room: "bias", pick_room: "pick", pickfree_room: "pickfree", softmodes_room: "softmodes"}
    for room, name in {**rooms, outliers_room: "outlier"}.items():
        monkeypatch.setattr(room, f"write_{name}_report", lambda *arguments: {})
    with serve(tmp_path / "template", tmp_path, monkeypatch) as server:
        yield server


def run_script(stub: Stub, name: str, **more: str) -> None:
    """Run a page's script; ``more`` are texts to replace, for the sake of time."""
    text = (DOCS / f"{name}_script.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    statements = [line for line in script.splitlines() if line and not line.startswith(("from", "import"))]
    assert len(statements) == 10
    for old, new in {"http://localhost:39000": stub.url, "shared=True": "shared=True, threads=1", **more}.items():
        assert old in script or old == "shared=True"
        script = script.replace(old, new)
    exec(compile(script, f"{name}_script.md", "exec"), {})
    assert stub.jobs[max(stub.jobs)]["status"] == "completed"


def in_job(stub: Stub, path: object) -> Path:
    """Return a file that an output names."""
    return stub.root / str(path)


@pytest.mark.parametrize("stub", ["outliers"], indirect=True)
def test_outliers(stub: Stub) -> None:
    run_script(stub, "outliers", **{"radius=36": "radius=36, working_box=21, fit_images=200"})
    kept = stub.output("J3", "particles_kept")
    np.testing.assert_array_equal(kept["uid"], np.load(stub.root / "J3/kept.cs")["uid"])
    assert 120 <= len(kept) <= 170  # of 150 particles among 225
    assert "location/center_x_frac" in kept.fields()


@pytest.mark.parametrize("stub", ["softmodes"], indirect=True)
def test_softmodes(stub: Stub) -> None:
    run_script(stub, "softmodes", **{"shared=True": "shared=True", "modes=1": "modes=1, box=8, iterations=3"})
    mode = stub.output("J5", "mode_01")
    found = read_volume(in_job(stub, mode["map/path"][0]))
    assert mode["map/path"][0] == "J5/mode_01_plus.mrc"
    assert list(found.data.shape) == mode["map/shape"][0].tolist()
    assert found.voxel_size_angstrom == pytest.approx(mode["map/psize_A"][0])


@pytest.mark.parametrize("stub", ["pick"], indirect=True)
def test_pick(stub: Stub) -> None:
    more = "lowpass=40, threshold=4, surrogates=4, ctf='none', contrast='white'"
    run_script(stub, "pick", **{"lowpass=40": more, "angular_step=45": "angular_step=90"})
    picks, table = stub.output("J7", "particles"), starfile.read(stub.root / "J7/picks.star")
    np.testing.assert_allclose(picks["location/center_y_frac"] * SIDE, table["rlnCoordinateY"], atol=2e-3)
    np.testing.assert_allclose(picks["pick_stats/power"], table["rlnAutopickFigureOfMerit"], atol=1e-4)


@pytest.mark.parametrize("stub", ["pickfree"], indirect=True)
def test_pickfree(stub: Stub) -> None:
    more = "box=box, rotations=192, iterations=2, snr=1, whiten=False, ctf=False, null=False"
    run_script(stub, "pickfree", **{"box=box": more})
    volume = stub.output("J7", "volume")
    found = read_volume(in_job(stub, volume["map/path"][0]))
    assert list(found.data.shape) == volume["map/shape"][0].tolist() == [9, 9, 9]
    assert found.voxel_size_angstrom == pytest.approx(volume["map/psize_A"][0])


@pytest.mark.parametrize("stub", ["bias"], indirect=True)
def test_bias(stub: Stub) -> None:
    more = "lowpass=40, threshold=4, surrogates=4, ctf='none', contrast='white', nulls=8"
    run_script(stub, "bias", **{"lowpass=40": more, "angular_step=45": "angular_step=90"})
    picks, table = stub.output("J7", "particles_scored"), starfile.read(stub.root / "J7/picks_scored.star")
    np.testing.assert_allclose(picks["location/center_x_frac"] * SIDE, table["rlnCoordinateX"], atol=2e-3)
    assert json.loads((stub.root / "J7/summary.json").read_text())["results"]["verdict"]
