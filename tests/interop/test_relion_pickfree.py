"""Reconstruction without picking in a real RELION project, from micrographs with CTF."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pypdf
import pytest
from interop.relion_project import RelionProject, wait_for
from pickfree_scene import micrograph, molecule

from napari_pickbias.imaging.ctf import ctf
from pickbias_relion.nodes import NODE_TYPES

pytestmark = pytest.mark.interop
MakeProject = Callable[[str], RelionProject]
BOX, PIXEL_SIZE, DEFOCUS = 9, 10.0, (12000.0, 21000.0)
OPTICS = """
data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
one 1 10.0 10.0 300.0 2.7 0.1

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
"""


def write_project(directory: Path, *, with_ctf: bool = True) -> None:
    """Write two micrographs of two defoci, micrographs_ctf.star and the initial map."""
    volume = molecule(BOX)
    (directory / "CtfFind").mkdir()
    (directory / "Micrographs").mkdir()
    rows = []
    for number, defocus in enumerate(DEFOCUS):
        transfer = ctf(
            (BOX, BOX), PIXEL_SIZE, defocus_u_angstrom=defocus, defocus_v_angstrom=defocus, defocus_angle_deg=0,
            voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1,
        )  # fmt: skip
        image, _ = micrograph(volume, (160, 170), 3.0, np.random.default_rng(number), ctf=transfer)
        name = f"Micrographs/mic{number}.mrc"
        mrcfile.write(directory / name, image, voxel_size=PIXEL_SIZE)
        rows.append(f"{name} 1" + (f" {defocus} {defocus} 0.0" if with_ctf else ""))
    labels = "_rlnDefocusU #3\n_rlnDefocusV #4\n_rlnDefocusAngle #5\n" if with_ctf else ""
    (directory / "CtfFind/micrographs_ctf.star").write_text(OPTICS + labels + "\n".join(rows) + "\n")
    mrcfile.write(directory / "initial.mrc", volume, voxel_size=PIXEL_SIZE)


def options(**more: object) -> dict[str, object]:
    """Return the options of the External job."""
    found: dict[str, object] = {
        "fn_exe": "pickbias_relion_pickfree", "in_mic": "CtfFind/micrographs_ctf.star", "in_3dref": "initial.mrc",
        "nr_threads": 2, "param1_label": "box", "param1_value": BOX, "param2_label": "rotations", "param2_value": 192,
        "param3_label": "iterations", "param3_value": 3, "param4_label": "snr", "param4_value": 1,
    }  # fmt: skip
    return found | more


def test_micrographs_to_a_map_that_relion_reads(relion_project: MakeProject) -> None:
    project = relion_project("pickfree")
    write_project(project.directory)
    job = project.run("External", **options())
    assert project.read(job, "run.err") == ""
    assert project.status(job) == "Succeeded"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    nodes = project.nodes(job)
    assert set(nodes) == {f"{job}{name}" for name in ("map.mrc", "half1.mrc", "half2.mrc", "logfile.pdf")}
    assert nodes[f"{job}map.mrc"] in set(NODE_TYPES["map"])
    assert nodes[f"{job}logfile.pdf"] in set(NODE_TYPES["log"])
    assert project.edges(job)[0] == {"CtfFind/micrographs_ctf.star", "initial.mrc"}
    out = project.read(job, "run.out")
    assert "evidence of the particle (" in out
    assert "taken as 1" not in out
    assert out.splitlines()[-1] == f"report: {job}report.html"
    summary = json.loads(project.read(job, "summary.json"))
    assert summary["results"]["evidence"] is True
    assert summary["results"]["micrographs"] == 2
    assert len(pypdf.PdfReader(project.directory / job / "logfile.pdf").pages) >= 1
    # RELION's own program reads the map, and compares the halves
    said = project.call("relion_image_handler", "--i", f"{job}half1.mrc", "--fsc", f"{job}half2.mrc", "--angpix", "10")
    assert "_rlnFourierShellCorrelation" in said

    # Continue: nothing to do, and said again to RELION
    before = (project.directory / job / "map.mrc").stat().st_mtime_ns
    project.again(job)
    assert project.status(job) == "Succeeded"
    assert (project.directory / job / "map.mrc").stat().st_mtime_ns == before
    assert project.nodes(job) == nodes


def test_abort_in_mid_run_and_continue(relion_project: MakeProject) -> None:
    project = relion_project("abort")
    write_project(project.directory)
    job = project.add("External", **options(param3_value=6))
    pipeliner = project.start_job(job)
    first = project.directory / job / ".pickbias/chain_half1.npz"
    wait_for(first.exists, "the first iteration")
    (project.directory / job / "RELION_JOB_ABORT_NOW").touch()
    pipeliner.communicate(timeout=240)
    assert project.status(job) == "Aborted"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_ABORTED"]
    assert project.nodes(job) == {}
    assert project.read(job, "run.err") == ""
    assert project.read(job, "run.out").splitlines()[-1].startswith("aborted as RELION asked")
    assert not (project.directory / job / "map.mrc").exists()

    # Continue goes on from the iterations that are there (tests/cli: with the bits of a run that nobody stopped)
    project.again(job)
    assert project.status(job) == "Succeeded", project.read(job, "run.err")
    log = project.read(job, "pickbias.log")
    assert log.count("half1: iteration 1:") == log.count("map: iteration 6:") == 1


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            "ctf",
            "CtfFind/micrographs_ctf.star: has no CTF columns (rlnDefocusU ...); give the micrographs of a CTF "
            "estimation (micrographs_ctf.star), or --no-ctf to take the CTF as 1",
        ),
        ("map", '--in_3dref: no file was given; choose one under "Input 3D reference" on the Input tab'),
        ("box", "--box 99: input should be less than or equal to 41; correct it on the Params tab"),
    ],
)
def test_a_fault_is_one_line_and_a_failed_job(relion_project: MakeProject, fault: str, line: str) -> None:
    project = relion_project("faults")
    write_project(project.directory, with_ctf=fault != "ctf")
    more = {"map": {"in_3dref": ""}, "box": {"param1_value": 99}}.get(fault, {})
    job = project.run("External", **options(**more))
    assert project.status(job) == "Failed"
    text = project.read(job, "run.err")
    assert len(text.splitlines()) == 1
    assert text.startswith(line)
