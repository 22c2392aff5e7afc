"""Soft modes as an external job: the real cryosparc-tools client against a stub of the server on a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

cryosparc = pytest.importorskip("cryosparc", reason="cryosparc-tools is not installed: pip install cryosparc-tools")
if not cryosparc.__version__.startswith("5."):
    pytest.skip("the stub server speaks CryoSPARC 5, cryosparc-tools is older", allow_module_level=True)

from interop.cryosparc_files import make_refinement  # noqa: E402
from interop.cryosparc_project import fault_of, run, serve  # noqa: E402
from interop.cryosparc_stub import AnswerError, HangupError, Stub  # noqa: E402

import napari_pickbias.runs.softmodes as room  # noqa: E402
from napari_pickbias.records import read_volume  # noqa: E402
from pickbias_cryosparc import live_external, live_softmodes  # noqa: E402

pytestmark = pytest.mark.interop
QUICK = ["--modes", "2", "--box", "8", "--iterations", "5", "--threads", "1"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_refinement(tmp_path_factory.mktemp("CS-three"))


@pytest.fixture
def stub(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(live_external, "UPLOAD_PAUSE_SECONDS", 0.01)
    with serve(template, tmp_path, monkeypatch) as server:
        yield server


def test_the_whole_way(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stub, "softmodes", "J4", "--mask", "J4.mask", *QUICK) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "P3 W1 J5: Soft modes"
    assert stub.jobs["J5"]["status"] == "completed"
    folder = stub.root / "J5"

    # Each mode is one row of maps, found from the project's folder, in the refined map's box and pixel size.
    refined = read_volume(stub.root / "J4/J4_map.mrc").data
    for number in (1, 2):
        mode = stub.output("J5", f"mode_{number:02d}")
        assert len(mode) == 1
        data = {}
        for slot in ("map", "map_plus", "map_minus"):
            assert mode[f"{slot}/shape"][0].tolist() == [12, 12, 12]
            volume = read_volume(stub.root / mode[f"{slot}/path"][0])
            assert volume.voxel_size_angstrom == pytest.approx(float(mode[f"{slot}/psize_A"][0])) == 4
            data[slot] = volume.data
        np.testing.assert_allclose(data["map_plus"] + data["map_minus"], 2 * refined, atol=1e-4)
        change = (data["map_plus"] - refined).ravel()
        assert np.corrcoef(change, data["map"].ravel())[0, 1] > 0.999
    assert read_volume(stub.root / stub.output("J5", "uncertainty")["map/path"][0]).data.max() > 0

    # The particles are those of the refinement, with the uncertainty of each pose.
    source, particles = stub.output("J4", "particles"), stub.output("J5", "particles")
    for name in source.fields():
        np.testing.assert_array_equal(particles[name], source[name], err_msg=name)
    table = np.load(folder / "particles_softmodes_pickbias.cs")
    np.testing.assert_array_equal(particles["uid"], table["uid"])
    np.testing.assert_array_equal(particles["rotation_sd/value"], table["pickbias/rotation_sd"])
    np.testing.assert_array_equal(particles["shift_sd/value"], table["pickbias/shift_sd_angst"])
    assert particles["rotation_sd/value"].min() > 0

    # The noise is that of the half maps, and the event log has the verdict, the modes and the figures.
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["parameters"]["noise"].endswith("J5/input_half1.mrc")
    assert (folder / "input_half2.mrc").resolve() == (stub.root / "J4/J4_map_half_B.mrc").resolve()
    assert any(text.startswith("mode 1: eigenvalue ") for text in stub.texts())
    assert summary["results"]["verdict_text"] in stub.texts()
    assert len([e for e in stub.events if e["type"] == "image"]) >= 3
    assert stub.tile["filetype"] == "png"


def test_gone_in_the_middle_and_resumed(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is finished although the server goes; nothing is computed again on the second call."""
    monkeypatch.setattr(room, "write_softmodes_report", lambda *arguments: {})
    monkeypatch.setattr(live_softmodes, "panels_of", lambda document: [])

    def leave() -> None:
        stub.gone()
        raise HangupError

    stub.hooks["jobs.save_output"] = leave
    assert run(stub, "softmodes", "J4", *QUICK) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "CryoSPARC does not answer" in line
    assert "save mode_01" in line
    assert "run again with --resume J5" in line
    before = (stub.root / "J5/spectrum.csv").stat().st_mtime_ns
    stub.hooks.clear()
    with stub:
        assert run(stub, "softmodes", "J4", *QUICK, "--resume", "J5") == 0
        assert stub.jobs["J6"]["status"] == "completed"
        assert stub.output("J6", "mode_02")["map/path"][0] == "J5/mode_02.mrc"
        assert (stub.root / "J5/spectrum.csv").stat().st_mtime_ns == before
        capsys.readouterr()
        line = fault_of(stub, capsys, "softmodes", "J4", *QUICK, "--seed", "3", "--resume", "J5")
        assert "was begun with seed = 0 (now 3)" in line
        assert "--resume J4: there is no unfinished run" in fault_of(
            stub, capsys, "softmodes", "J4", *QUICK, "--resume", "J4"
        )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the science be an end: what comes before it is the matter."""

    def end(*arguments: object, **more: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(room, "run_softmodes", end)


def test_a_server_that_has_no_slot_for_it(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The particles go back with their poses alone; the uncertainties stay in the folder."""
    monkeypatch.setattr(room, "write_softmodes_report", lambda *arguments: {})
    monkeypatch.setattr(live_softmodes, "panels_of", lambda document: [])

    def refuse() -> None:
        if b"components" in stub.requests[-1][2]:
            raise AnswerError(422, "Unknown slot dtype components")

    stub.hooks["jobs.add_external_output"] = refuse
    assert run(stub, "softmodes", "J4", *QUICK, "--quiet") == 0
    (warning,) = stub.texts("warning")
    assert warning.endswith("the uncertainties of the poses are in the job's folder alone")
    assert set(stub.output("J5", "particles").fields()) == set(stub.output("J4", "particles").fields())


def edit(stub: Stub, output: str, slot: str, **more: object) -> None:
    for result in stub.jobs["J4"]["spec"]["outputs"][output]["results"]:
        if result["name"] == slot:
            result |= more


def drop(stub: Stub, file: str, field: str) -> None:
    rows = np.load(stub.root / file)
    keep = [name for name in rows.dtype.names if name != field]
    with (stub.root / file).open("wb") as stream:
        np.save(stream, np.array(rows[keep].tolist(), [(name, rows.dtype[name]) for name in keep]))


def repoint(stub: Stub, path: bytes) -> None:
    rows = np.load(stub.root / "J4/J4_volume.cs")
    rows = rows.astype([(n, "S40" if n == "map/path" else rows.dtype[n]) for n in rows.dtype.names])
    rows["map/path"] = path
    with (stub.root / "J4/J4_volume.cs").open("wb") as stream:
        np.save(stream, rows)


FAULTS = {
    "no volume": (
        lambda stub: stub.jobs["J4"]["spec"]["outputs"].pop("volume"),
        [],
        "J4: has no volume output (particles (particle), mask (mask)); give a 3-D refinement with --volume",
    ),
    "wrong volume": (
        lambda stub: None,
        ["--volume", "J4.mask"],
        "--volume J4.mask: is of type mask, not of maps; J4 has particles (particle), volume (volume), mask (mask)",
    ),
    "no such volume": (
        lambda stub: None,
        ["--volume", "4.v"],
        "--volume J4.v: J4 has no such output; it has particles (particle), volume (volume), mask (mask)",
    ),
    "several volumes": (
        lambda stub: stub.jobs["J4"]["spec"]["outputs"].update(
            volume_class_0=stub.jobs["J4"]["spec"]["outputs"]["volume"],
            volume_class_1=stub.jobs["J4"]["spec"]["outputs"].pop("volume"),
        ),
        [],
        "J4: has 2 volume outputs; choose one with --volume J4.NAME: volume_class_0, volume_class_1",
    ),
    "no poses": (
        lambda stub: edit(stub, "particles", "alignments3D", name="alignments2D", dtype="alignments2D"),
        [],
        "J4.particles: lacks the slot 'alignments3D' (the poses); it has alignments2D, blob: give the output of a 3-D",
    ),
    "no rows": (
        lambda stub: [edit(stub, "particles", slot, num_items=[0]) for slot in ("alignments3D", "blob")],
        [],
        "J4.particles: holds no particles (0 rows); choose another output or job",
    ),
    "field": (
        lambda stub: drop(stub, "J4/J4_particles.cs", "alignments3D/psize_A"),
        [],
        "J4.particles: has no field 'alignments3D/psize_A', which is needed; give the output of a 3-D refinement",
    ),
    "out of the project": (
        lambda stub: repoint(stub, b"../../etc/passwd"),
        [],
        "J4.volume: 'map/path' '../../etc/passwd' leads out of the project folder and is not followed",
    ),
    "no file": (
        lambda stub: repoint(stub, b"J4/other.mrc"),
        [],
        "J4/other.mrc is not there; run where CryoSPARC's project folder is mounted",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_one_line_before_anything_is_computed(stub: Stub, capsys, quick: None, case: str) -> None:
    break_it, more, wanted = FAULTS[case]
    break_it(stub)
    assert wanted in fault_of(stub, capsys, "softmodes", "J4", *QUICK, *more)
    assert stub.jobs["J5"]["status"] == "failed"
    assert not any(name in {"jobs.save_output", "assets.upload"} for name, _, _ in stub.requests)


def test_a_field_that_a_later_server_wants(stub: Stub, capsys, quick: None, monkeypatch) -> None:
    from interop.cryosparc_files import FIELDS

    monkeypatch.setitem(FIELDS, ("volume", "blob"), [*FIELDS["volume", "blob"], ("colour", "f4")])
    line = fault_of(stub, capsys, "softmodes", "J4", *QUICK)
    assert line.startswith("mode_01: CryoSPARC wants the field 'map/colour' (f4), which this version does not make;")
