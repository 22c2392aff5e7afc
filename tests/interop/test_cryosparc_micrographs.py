"""Jobs on micrographs as external jobs: the real cryosparc-tools client against a stub of the server on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from interop.cryosparc_project import fault_of, run, serve  # noqa: E402
from interop.cryosparc_scenes import PIXEL_SIZE, SIDE, make_pickfree_scene, make_picking_scene  # noqa: E402
from interop.cryosparc_stub import HangupError, Stub  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

import napari_pickbias.runs.pick as pick_room  # noqa: E402
import napari_pickbias.runs.pickfree as pickfree_room  # noqa: E402
from napari_pickbias.records import read_volume  # noqa: E402
from pickbias_cryosparc import live, live_external, live_pick, live_pickfree  # noqa: E402

pytestmark = pytest.mark.interop
Scene = tuple[Path, np.ndarray]
PICK = ["--angular-step", "45", "--lowpass", "40", "--threshold", "4", "--contrast", "white", "--surrogates", "4"]
PICK += ["--ctf", "none", "--threads", "1"]
PICKFREE = ["--box", "9", "--rotations", "192", "--iterations", "2", "--snr", "1", "--no-whiten", "--no-ctf"]
PICKFREE += ["--no-null", "--threads", "1"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("CS-three")
    return root, make_picking_scene(root)


@pytest.fixture
def stub(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(live_external, "UPLOAD_PAUSE_SECONDS", 0.01)
    for room, name in ((pick_room, "write_pick_report"), (pickfree_room, "write_pickfree_report")):
        monkeypatch.setattr(room, name, lambda *arguments: {})  # other tests' matter
    with serve(scene[0], tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for door in (live_pick, live_pickfree):
        monkeypatch.setattr(door, "panels_of", lambda document: [])


def test_picking_the_whole_way(stub: Stub, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """The picks of the run arrive with place, score, angle and template; some lie on particles."""
    assert run(stub, "pick", "J6", "--templates", "6", *PICK) == 0
    assert capsys.readouterr().err == ""
    assert stub.jobs["J7"]["status"] == "completed"
    stack = mrcfile.read(stub.root / "J7/input_templates.mrcs")
    np.testing.assert_array_equal(stack, mrcfile.read(stub.root / "J6/class_averages.mrc")[1::2])

    particles, table = stub.output("J7", "particles"), starfile.read(stub.root / "J7/picks.star")
    assert len(particles) == len(table) > 10
    np.testing.assert_array_equal(particles["location/micrograph_path"], table["rlnMicrographName"])
    for axis, star in (("x", "X"), ("y", "Y")):
        place = particles[f"location/center_{axis}_frac"] * SIDE
        np.testing.assert_allclose(place, table[f"rlnCoordinate{star}"], atol=2e-3)
    np.testing.assert_allclose(particles["pick_stats/ncc_score"], table["rlnAutopickFigureOfMerit"], atol=1e-4)
    np.testing.assert_array_equal(particles["pick_stats/power"], particles["pick_stats/ncc_score"])
    np.testing.assert_array_equal(particles["pick_stats/template_idx"], table["rlnClassNumber"] - 1)
    np.testing.assert_allclose(particles["pick_stats/angle_rad"], np.deg2rad(table["rlnAnglePsi"]), atol=1e-5)
    assert len(set(particles["uid"])) == len(particles)

    # Each pick knows its micrograph: uid, optics group and all.
    exposures = stub.output("J6", "exposures")
    rows = {path: row for row, path in enumerate(exposures["micrograph_blob/path"])}
    row = [rows[path] for path in particles["location/micrograph_path"]]
    np.testing.assert_array_equal(particles["location/micrograph_uid"], exposures["uid"][row])
    np.testing.assert_array_equal(particles["location/exp_group_id"], exposures["mscope_params/exp_group_id"][row])
    assert set(particles["location/micrograph_psize_A"]) == {PIXEL_SIZE}
    assert particles["location/micrograph_shape"].tolist() == [[SIDE, SIDE]] * len(row)

    # The best picks lie on particles: 12 discs of 4 px cover 1 % of a micrograph.
    places = np.stack([particles["location/center_x_frac"], particles["location/center_y_frac"]], axis=1) * SIDE
    best = np.argsort(-particles["pick_stats/ncc_score"])[:4]
    near = [cKDTree(scene[1][row[i]]).query(places[i])[0] < 4 for i in best]
    assert sum(near) >= 3

    # The micrographs go on as they came, with all that they inherited.
    picked = stub.output("J7", "micrographs")
    for name in exposures.fields():
        np.testing.assert_array_equal(picked[name], exposures[name], err_msg=name)
    assert len([e for e in stub.events if e["type"] == "image"]) >= 3
    assert any(text.startswith(f"{len(table)} picks on 2 micrographs from a score of 4.00 up") for text in stub.texts())


def test_picking_with_a_map_resumed(stub: Stub, no_figures: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The server goes before the picks are sent: the second call sends the same without searching again."""

    def leave() -> None:
        stub.gone()
        raise HangupError

    stub.hooks["jobs.save_output"] = leave
    words = ["pick", "J6", "--volume", "J6", *PICK]
    assert run(stub, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "save particles" in line
    assert "run again with --resume J7" in line
    before = (stub.root / "J7/candidates.npz").stat()
    stub.hooks.clear()
    with stub:
        assert run(stub, *words, "--resume", "J7") == 0
        assert (stub.root / "J7/candidates.npz").stat() == before
        table = starfile.read(stub.root / "J7/picks.star")
        found = stub.output("J8", "particles")
        np.testing.assert_allclose(found["pick_stats/ncc_score"], table["rlnAutopickFigureOfMerit"], atol=1e-4)


def test_without_picking(tmp_path: Path, no_figures: None, monkeypatch, capsys) -> None:
    make_pickfree_scene(tmp_path / "template")
    monkeypatch.setattr(pickfree_room, "write_pickfree_report", lambda *arguments: {})
    with serve(tmp_path / "template", tmp_path, monkeypatch) as stub:
        assert run(stub, "pickfree", "J6", "--volume", "J6.volume", *PICKFREE) == 0
        assert capsys.readouterr().err == ""
        volume = stub.output("J7", "volume")
        for slot, file in (("map", "map"), ("map_half_A", "half1"), ("map_half_B", "half2")):
            assert volume[f"{slot}/path"][0] == f"J7/{file}.mrc"
            found = read_volume(stub.root / volume[f"{slot}/path"][0])
            assert volume[f"{slot}/shape"][0].tolist() == list(found.data.shape) == [9, 9, 9]
            assert volume[f"{slot}/psize_A"][0] == pytest.approx(found.voxel_size_angstrom) == PIXEL_SIZE
        initial = read_volume(stub.root / "J6/map.mrc").data
        found = read_volume(stub.root / "J7/map.mrc").data
        assert np.corrcoef(initial.ravel(), found.ravel())[0, 1] > 0.5
        assert any(text.startswith(("evidence of the particle", "no evidence")) for text in stub.texts())


# -- faults -----------------------------------------------------------------------------------------------------------


def drop(stub: Stub, file: str, *fields: str) -> None:
    rows = np.load(stub.root / file)
    keep = [name for name in rows.dtype.names if name not in fields]
    with (stub.root / file).open("wb") as stream:
        np.save(stream, np.array(rows[keep].tolist(), [(name, rows.dtype[name]) for name in keep]))


def no_ctf(stub: Stub) -> None:
    results = stub.jobs["J6"]["spec"]["outputs"]["exposures"]["results"]
    results[:] = [r for r in results if r["name"] != "ctf"]


TEMPLATES, MAP = ["--templates", "J6"], ["--volume", "J6"]
FAULTS = {
    "no exposures": (
        "pick",
        lambda stub: stub.jobs["J6"]["spec"]["outputs"].pop("exposures"),
        TEMPLATES,
        "J6: has no exposure output (templates_selected (template), volume (volume)); give a job that has corrected or",
    ),
    "no templates": (
        "pick",
        lambda stub: stub.jobs["J6"]["spec"]["outputs"].pop("templates_selected"),
        TEMPLATES,
        "J6: has no template output (exposures (exposure), volume (volume)); give a 2-D classification with --templ",
    ),
    "field of templates": (
        "pick",
        lambda stub: drop(stub, "J6/templates.cs", "blob/psize_A"),
        TEMPLATES,
        "J6.templates_selected: has no field 'blob/psize_A', which is needed; give the output of a 2-D classification",
    ),
    "field of micrographs": (
        "pick",
        lambda stub: drop(stub, "J6/exposures.cs", "micrograph_blob/psize_A"),
        MAP,
        "J6.exposures: has no field 'micrograph_blob/psize_A', which is needed; give the output of a job that has corr",
    ),
    "stack not there": (
        "pick",
        lambda stub: (stub.root / "J6/class_averages.mrc").unlink(),
        TEMPLATES,
        "J6/class_averages.mrc is not there; run where CryoSPARC's project is mounted",
    ),
    "micrograph not there": (
        "pick",
        lambda stub: next((stub.root / "J1/motioncorrected").iterdir()).unlink(),
        MAP,
        "which is in none of the folders above it; keep the .cs file in its project",
    ),
    "no CTF": (
        "pickfree",
        no_ctf,
        [*MAP, "--box", "9"],
        "J6.exposures: has no field 'ctf/df1_A', which is needed; give the output of a CTF estimation, or --no-ctf to",
    ),
    "no map": (
        "pickfree",
        lambda stub: (stub.root / "J6/map.mrc").unlink(),
        [*MAP, "--box", "9"],
        "J6/map.mrc is not there; run where CryoSPARC's project folder is mounted",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_one_line_before_anything_is_computed(stub: Stub, capsys, monkeypatch, case: str) -> None:
    job, break_it, more, wanted = FAULTS[case]

    def end(*arguments: object, **more: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(pick_room, "run_pick", end)
    monkeypatch.setattr(pickfree_room, "run_pickfree", end)
    break_it(stub)
    assert wanted in fault_of(stub, capsys, job, "J6", *more)
    assert stub.jobs["J7"]["status"] == "failed"
    assert not any(name in {"jobs.save_output", "assets.upload"} for name, _, _ in stub.requests)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pick"], "--templates, --volume: none is given; name the job of exactly one"),
        (["pick", *TEMPLATES, *MAP], "--templates, --volume: several are given; name the job of exactly one"),
        (["pick", "--templates", "x"], "--templates x: is no number of that kind; give one such as J12"),
        (["pickfree", *MAP], "--box: is missing; see its help"),
        (["pickfree", "--box", "9"], "--volume: is missing; give the job that has the maps: a 3-D refinement or an im"),
        (["pickfree", *MAP, "--box", "9", "--stages", "x"], "--stages x: 'x' is no stage; write ITERATIONS:FRACTION"),
    ],
)
def test_each_fault_of_usage_is_one_line(capsys, words: list[str], line: str) -> None:
    assert live.main([words[0], "--url", "http://127.0.0.1:9", "P3", "W1", "J6", *words[1:]]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"pickbias-cryosparc: {line}")
    assert err.count("\n") == 1
