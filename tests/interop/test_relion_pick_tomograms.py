"""Picking in tomograms as an External job of a real pipeline: files, nodes, and refusals.

RELION 5, which has tomograms, is not installed with the tests; the pipeline of whatever release is there runs the job,
and the files are compared with what RELION 5's readers ask for (tests/adapters/pickbias_relion/test_tomograms.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import starfile
from interop.relion_project import RelionProject

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.records import write_mrc
from pickbias_relion.nodes import NODE_TYPES

pytestmark = pytest.mark.interop
VOXEL, SHAPE = 10.0, (40, 60, 64)
PLACES = np.array([[18, 17, 18], [21, 42, 44], [20, 18, 45], [19, 43, 17]])
STAR = """
# version 50001

data_global

loop_
_rlnTomoName #1
_rlnVoltage #2
_rlnSphericalAberration #3
_rlnAmplitudeContrast #4
_rlnTomoTiltSeriesPixelSize #5
_rlnTomoTomogramBinning #6
_rlnTomoSizeX #7
_rlnTomoSizeY #8
_rlnTomoSizeZ #9
_rlnTomoReconstructedTomogramHalf1 #10
_rlnTomoReconstructedTomogramHalf2 #11
TS_01 300.0 2.7 0.1 1.25 8.0 512 480 320 Tomograms/job006/rec_TS_01_half1.mrc Tomograms/job006/rec_TS_01_half2.mrc
"""


@pytest.fixture
def lab(relion_project: Callable[[str], RelionProject]) -> RelionProject:
    """A project with a list of one tomogram of four particles, as RELION 5's Reconstruct tomograms writes it."""
    project = relion_project("relion_tomograms")
    made = np.random.default_rng(0).normal(size=SHAPE)
    volume = blob_volume(phantom(6.0, elongation=1.4), 20)
    for z, y, x in PLACES:
        made[z - 10 : z + 10, y - 10 : y + 10, x - 10 : x + 10] -= 30 * volume / np.linalg.norm(volume)
    folder = project.directory / "Tomograms" / "job006"
    folder.mkdir(parents=True)
    for half in ("half1", "half2"):
        write_mrc(folder / f"rec_TS_01_{half}.mrc", made.astype(np.float32), VOXEL)
    (folder / "tomograms.star").write_text(STAR)
    write_mrc(project.directory / "map.mrc", blob_volume(phantom(6.0, elongation=1.4), 32), VOXEL)
    return project


def job_of(words: dict[str, object], **more: object) -> dict[str, object]:
    options: dict[str, object] = {"fn_exe": "pickbias_relion_pick_tomograms", "in_3dref": "map.mrc", **more}
    for number, (label, value) in enumerate(words.items(), 1):
        options |= {f"param{number}_label": label, f"param{number}_value": value}
    return options


def test_the_pipeline_runs_it(lab: RelionProject) -> None:
    words = {"angular_step": 60, "contrast": "black", "threshold": 6, "tilt_low": -90, "tilt_high": 90}
    star = "Tomograms/job006/tomograms.star"
    job = lab.run("External", **job_of(words, in_mic=star, nr_threads=2))
    assert lab.read(job, "run.err") == ""
    assert lab.status(job) == "Succeeded"
    assert lab.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    names = [f"{job}{name}" for name in ("particles.star", "optimisation_set.star", "logfile.pdf")]
    nodes = lab.nodes(job)
    assert list(nodes) == names
    for name, kind in zip(names, ("particles", "optimisation_set", "log"), strict=True):
        assert nodes[name] in set(NODE_TYPES[kind])
    together = starfile.read(lab.directory / names[1])
    assert together == {"rlnTomoParticlesFile": names[0], "rlnTomoTomogramsFile": star}
    particles = starfile.read(lab.directory / names[0])
    assert set(particles["rlnTomoName"]) == {"TS_01"}
    found = particles[[f"rlnCenteredCoordinate{axis}Angst" for axis in "ZYX"]].to_numpy()
    # half of rlnTomoSizeX/Y/Z (unbinned pixels of 1.25 Å) is the origin
    wanted = PLACES * VOXEL - np.array([320, 480, 512]) / 2 * 1.25
    apart = np.linalg.norm(found[:, None] - wanted, axis=2)
    assert sorted(apart.argmin(axis=1)) == [0, 1, 2, 3]
    assert apart.min(axis=1).max() < VOXEL
    out = lab.read(job, "run.out").splitlines()
    assert "4 picks in 1 tomograms from a score of 6.00 up" in out
    assert any("rlnTomoReconstructedTomogramHalf1 is taken" in line for line in out)
    summary = json.loads(lab.read(job, "summary.json"))
    assert summary["parameters"]["tilt_range"] == [-90, 90]
    before = (lab.directory / names[0]).stat().st_mtime_ns
    lab.again(job)
    assert (lab.directory / names[0]).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "more", "line"),
    [
        ({}, {}, "--in_mics, --tomograms: neither is given; write the path of tomograms.star under"),
        (
            {"tomograms": "Tomograms/job006", "tilt_low": -60},
            {},
            "--tilt_high: is missing; give both tilt_low and tilt_high on the Params tab, or neither",
        ),
        ({"tomograms": "Tomograms/job006"}, {"in_3dref": ""}, "--in_3dref: no file was given; choose one under"),
    ],
)
def test_refusals(lab: RelionProject, words: dict[str, object], more: dict[str, object], line: str) -> None:
    job = lab.run("External", **{**job_of(words), **more})
    assert lab.status(job) == "Failed"
    said = lab.read(job, "run.err").strip().splitlines()
    assert len(said) == 1
    assert line in said[0]
    assert not Path(lab.directory / job / "particles.star").exists()
