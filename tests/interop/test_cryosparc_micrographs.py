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

from interop.cryosparc_files import save  # noqa: E402
from interop.cryosparc_project import described, fault_of, run, serve  # noqa: E402
from interop.cryosparc_scenes import PIXEL_SIZE, SIDE, make_pickfree_scene, make_picking_scene  # noqa: E402
from interop.cryosparc_stub import HangupError, Stub  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

import napari_pickbias.runs.bias as bias_room  # noqa: E402
import napari_pickbias.runs.pick as pick_room  # noqa: E402
import napari_pickbias.runs.pickfree as pickfree_room  # noqa: E402
from napari_pickbias.records import read_volume  # noqa: E402
from pickbias_cryosparc import live, live_bias, live_external, live_pick, live_pickfree  # noqa: E402

pytestmark = pytest.mark.interop
Scene = tuple[Path, np.ndarray]
PICK = ["--angular-step", "45", "--lowpass", "40", "--threshold", "4", "--contrast", "white", "--surrogates", "4"]
PICK += ["--ctf", "none", "--threads", "1"]
COARSE = ["--angular-step", "90"]
BIAS = [*PICK, *COARSE, "--nulls", "8"]
PICKFREE = ["--box", "9", "--rotations", "192", "--iterations", "2", "--snr", "1", "--no-whiten", "--no-ctf"]
PICKFREE += ["--no-null", "--threads", "1"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("CS-three")
    return root, make_picking_scene(root)


@pytest.fixture
def stub(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(live_external, "UPLOAD_PAUSE_SECONDS", 0.01)
    for room, name in ((pick_room, "pick"), (pickfree_room, "pickfree"), (bias_room, "bias")):
        monkeypatch.setattr(room, f"write_{name}_report", lambda *arguments: {})  # other tests' matter
    with serve(scene[0], tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for door in (live_pick, live_pickfree, live_bias):
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
    words = ["pick", "J6", "--volume", "J6", *PICK, *COARSE]
    assert run(stub, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "save particles" in line
    assert "run again with --resume J7" in line
    before = (stub.root / "J7/candidates.npz").stat().st_mtime_ns
    stub.hooks.clear()
    with stub:
        assert run(stub, *words, "--resume", "J7") == 0
        assert (stub.root / "J7/candidates.npz").stat().st_mtime_ns == before
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


def picks_of_another(stub: Stub, scene: Scene) -> np.ndarray:
    """Add J8, whose picks are the particles 1.5 px off, the first one twice; return the uids of the twins."""
    exposures = np.load(stub.root / "J6/exposures.cs")
    places = np.concatenate([scene[1][:, :1], scene[1]], axis=1) + 1.5
    count, each = places.shape[:2]
    uid = np.random.default_rng(6).permutation(np.arange(1, count * each + 1, dtype="u8"))
    location = {
        "micrograph_path": np.repeat(exposures["micrograph_blob/path"], each),
        "micrograph_uid": np.repeat(exposures["uid"], each),
        "micrograph_shape": np.full((count * each, 2), SIDE, "u4"),
        "center_x_frac": (places[..., 0].ravel() / SIDE).astype("f4"),
        "center_y_frac": (places[..., 1].ravel() / SIDE).astype("f4"),
    }
    save(stub.root / "J8/picks.cs", {"uid": uid, **{f"location/{name}": v for name, v in location.items()}})
    stub.add_job("J8", {"particles": described(stub.root, "particle", {"location": "J8/picks.cs"})})
    return uid.reshape(count, each)[:, :2]


def test_bias_of_the_picks_of_another_program(stub: Stub, scene: Scene, no_figures: None, capsys) -> None:
    """Each pick keeps uid and place and gets a score; of two on one place one is left; the twin is a stack."""
    twins = picks_of_another(stub, scene)
    assert run(stub, "bias", "J6", "--templates", "J6", "--picks", "J8", *BIAS) == 0
    assert capsys.readouterr().err == ""
    source, scored = stub.output("J8", "particles"), stub.output("J9", "particles_scored")
    assert len(source) - 6 <= len(scored) <= len(source) - 2
    assert all(np.isin(pair, scored["uid"]).sum() <= 1 for pair in twins)
    rows = np.isin(source["uid"], scored["uid"])
    for name in source.fields():
        np.testing.assert_array_equal(scored[name], source[name][rows], err_msg=name)
    table = starfile.read(stub.root / "J9/picks_scored.star")
    np.testing.assert_allclose(
        np.sort(scored["pick_stats/ncc_score"]), np.sort(table["rlnAutopickFigureOfMerit"]), atol=1e-4
    )
    # A pick's score is that of the scored pick within a fifth of the particle's diameter.
    for path in set(table["rlnMicrographName"]):
        mine, theirs = scored["location/micrograph_path"] == path, table[table["rlnMicrographName"] == path]
        places = np.stack([scored["location/center_x_frac"], scored["location/center_y_frac"]], axis=1)[mine] * SIDE
        distance, near = cKDTree(theirs[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()).query(places)
        assert distance.max() < 6
        scores = theirs["rlnAutopickFigureOfMerit"].to_numpy()[near]
        np.testing.assert_allclose(scored["pick_stats/ncc_score"][mine], scores, atol=1e-4)
    assert any("picks lie on a border, bad area or another pick, and have no score" in t for t in stub.texts())
    assert any(text.startswith("verdict: ") for text in stub.texts())

    twin, exposures = stub.output("J9", "noise_twin"), stub.output("J6", "exposures")
    stack = mrcfile.read(stub.root / twin["blob/path"][0])
    assert stack.shape == (len(twin), *twin["blob/shape"][0])
    np.testing.assert_array_equal(twin["blob/idx"], np.arange(len(stack)))
    assert set(twin["ctf/accel_kv"]) == set(exposures["ctf/accel_kv"])


def test_bias_of_own_picks(stub: Stub, no_figures: None) -> None:
    assert run(stub, "bias", "J6", "--templates", "J6", *BIAS, "--quiet") == 0
    scored, table = stub.output("J7", "particles_scored"), starfile.read(stub.root / "J7/picks_scored.star")
    np.testing.assert_allclose(scored["pick_stats/ncc_score"], table["rlnAutopickFigureOfMerit"], atol=1e-4)
    np.testing.assert_allclose(scored["location/center_x_frac"] * SIDE, table["rlnCoordinateX"], atol=2e-3)
    np.testing.assert_array_equal(scored["location/micrograph_path"], table["rlnMicrographName"])


# -- faults -----------------------------------------------------------------------------------------------------------


def drop(stub: Stub, file: str, *fields: str) -> None:
    rows = np.load(stub.root / file)
    keep = [name for name in rows.dtype.names if name not in fields]
    with (stub.root / file).open("wb") as stream:
        np.save(stream, np.array(rows[keep].tolist(), [(name, rows.dtype[name]) for name in keep]))


def move_out(stub: Stub, path: Path) -> None:
    """Move a file to the same place beside the project, where it must not be looked for."""
    target = stub.root.parent / path.relative_to(stub.root)
    target.parent.mkdir(parents=True)
    path.rename(target)


def repoint(stub: Stub, file: str, field: str, path: bytes) -> None:
    rows = np.load(stub.root / file)
    rows[field] = path
    with (stub.root / file).open("wb") as stream:
        np.save(stream, rows)


def no_ctf(stub: Stub) -> None:
    results = stub.jobs["J6"]["spec"]["outputs"]["exposures"]["results"]
    results[:] = [r for r in results if r["name"] != "ctf"]


def no_places(stub: Stub) -> None:
    stub.add_job("J8", {"particles": described(stub.root, "particle", {"blob": "J6/templates.cs"})})


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
        "J6/class_averages.mrc is not there; run where CryoSPARC's project folder is mounted",
    ),
    "micrograph not there": (
        "pick",
        lambda stub: move_out(stub, next((stub.root / "J1/motioncorrected").glob("*_mic_0.mrc"))),
        MAP,
        "_mic_0.mrc is not there; run where CryoSPARC's project folder is mounted",
    ),
    "micrograph outside": (
        "bias",
        lambda stub: repoint(stub, "J6/exposures.cs", "micrograph_blob/path", b"/etc/passwd"),
        MAP,
        "J6.exposures: 'micrograph_blob/path' '/etc/passwd' leads out of the project folder and is not followed",
    ),
    "templates outside": (
        "bias",
        lambda stub: repoint(stub, "J6/templates.cs", "blob/path", b"../x.mrc"),
        TEMPLATES,
        "J6.templates_selected: 'blob/path' '../x.mrc' leads out of the project folder and is not followed",
    ),
    "no places": (
        "bias",
        no_places,
        [*MAP, "--picks", "J8"],
        "J8.particles: lacks the slot 'location' (the places of the picks); it has blob: give the output of a picking",
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
    monkeypatch.setattr(bias_room, "run_bias", end)
    break_it(stub)
    assert wanted in fault_of(stub, capsys, job, "J6", *more)
    assert stub.jobs[max(stub.jobs)]["status"] == "failed"
    assert not any(name in {"jobs.save_output", "assets.upload"} for name, _, _ in stub.requests)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pick"], "--templates, --volume: none is given; name the job of exactly one"),
        (["pick", *TEMPLATES, *MAP], "--templates, --volume: several are given; name the job of exactly one"),
        (["bias", "--picks", "J6"], "--templates, --volume: none is given; name the job of exactly one"),
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
