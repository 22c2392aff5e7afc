"""Outlier removal in real RELION projects: Import -> External -> Class2D."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pypdf
import pytest
import starfile
from interop.relion_project import RelionProject, wait_for, write_particles
from support import blob_stack

from pickbias_relion.nodes import NODE_TYPES

pytestmark = pytest.mark.interop
MakeProject = Callable[[str], RelionProject]
PARTICLES, LOG = (set(NODE_TYPES[kind]) for kind in ("particles", "log"))
PIXEL_SIZE = 4.0
RADIUS = 12 * PIXEL_SIZE


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four hundred particles, a quarter of them junk."""
    return blob_stack(300, 33, box=48, radius=12.0, signal=1.2, seed=5)


def import_particles(project: RelionProject, star: Path) -> str:
    job = project.run("Import", do_raw="No", do_other="Yes", fn_in_other=star, node_type="Particles STAR file (.star)")
    assert project.status(job) == "Succeeded"
    return f"{job}particles.star"


def outliers(project: RelionProject, particles: str, **more: object) -> dict[str, object]:
    """Return the options of the External job."""
    options = {"fn_exe": "pickbias_relion_outliers", "in_part": particles, "nr_threads": 2}
    return options | {"param1_label": "radius", "param1_value": RADIUS} | more


def class2d(project: RelionProject, particles: str, diameter: float, ctf: str) -> str:
    """Run a short classification: RELION reads every particle and its images."""
    return project.run(
        "Class2D",
        fn_img=particles,
        nr_classes=2,
        nr_iter=2,
        particle_diameter=diameter,
        do_ctf_correction=ctf,
        psi_sampling=30,
        offset_range=2,
        offset_step=2,
        do_preread_images="Yes",
        do_parallel_discio="No",
        nr_threads=2,
        nr_mpi=1,
        use_gpu="No",
        other_args="--dont_check_norm",
    )


def images_of(star: Path) -> list[str]:
    found = starfile.read(star, always_dict=True)["particles"]
    return found["rlnImageName"].tolist()


def test_import_outliers_class2d(relion_project: MakeProject, blobs: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = blobs
    project = relion_project("relion_lab")
    particles = import_particles(project, write_particles(project.directory, images, PIXEL_SIZE))
    job = project.run("External", **outliers(project, particles))

    assert project.read(job, "run.err") == ""
    assert project.status(job) == "Succeeded"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    assert "--pipeline_control External/job002/" in project.read(job, "note.txt")
    names = [f"{job}{name}" for name in ("kept.star", "rejected.star", "logfile.pdf")]
    nodes = project.nodes(job)
    assert list(nodes) == names
    assert nodes[names[0]] in PARTICLES
    assert nodes[names[1]] in PARTICLES
    assert nodes[names[2]] in LOG
    assert project.edges(job) == ({particles}, set(names))
    # What the Browse buttons list.
    browse = {str(path.relative_to(project.directory / ".Nodes")) for path in project.directory.glob(".Nodes/**/*.*")}
    assert {name for name in names if any(entry.endswith(f"/{name}") for entry in browse)} == set(names)

    # Every particle is in one of the two files, in the order of the input, and most judgements are right.
    kept, rejected = images_of(project.directory / names[0]), images_of(project.directory / names[1])
    assert sorted(kept + rejected) == sorted(images_of(project.directory / particles))
    keep = np.isin(np.arange(len(images)) + 1, [int(name.split("@")[0]) for name in kept])
    # Seeds 0 ... 9 of blob_stack: 1.00 of the particles kept, 0.90 ... 0.97 of the junk rejected.
    assert keep[labels == 0].mean() > 0.97
    assert (~keep[labels != 0]).mean() > 0.85
    out = project.read(job, "run.out").splitlines()
    assert out[0].startswith("pickbias_relion_outliers ")
    share = f"kept {len(kept)} of 399 particles ({len(kept) / 399:.1%}); rejected: "
    assert any(line.startswith(share) for line in out)
    assert out[-2:] == [f"report: {job}report.html", f"report as PDF: {job}logfile.pdf"]
    assert len(pypdf.PdfReader(project.directory / names[2]).pages) >= 1
    summary = json.loads(project.read(job, "summary.json"))
    assert summary["results"]["kept"] == len(kept)
    assert summary["inputs"][0]["path"] == particles

    # RELION reads both files, and finds the images of every kept particle.
    both = f"{names[0]} {names[1]}"
    project.call("relion_star_handler", "--combine", "--i", both, "--o", "both.star")
    assert len(images_of(project.directory / "both.star")) == len(images)
    classes = class2d(project, names[0], 4 * RADIUS / 2, "No")
    assert project.status(classes) == "Succeeded", project.read(classes, "run.err")
    assert project.edges(classes)[0] == {names[0]}
    assert len(images_of(project.directory / classes / "run_it002_data.star")) == len(kept)


def test_abort_continue_and_continue_again(relion_project: MakeProject, blobs: tuple[np.ndarray, np.ndarray]) -> None:
    project = relion_project("project")
    star = write_particles(project.directory, blobs[0], PIXEL_SIZE)
    # Through a queue, with a shell for the queueing system.
    script = "#!/bin/sh\nXXXcommandXXX > XXXoutfileXXX 2> XXXerrfileXXX\n"
    (project.directory / "queue.sh").write_text(script)
    queue = {"do_queue": "Yes", "qsub": "sh", "qsubscript": "queue.sh"}
    job = project.add("External", **outliers(project, str(star), **queue))
    pipeliner = project.start_job(job)
    run_out = project.directory / job / "run.out"
    wait_for(lambda: run_out.exists() and "command: " in run_out.read_text(), "the job's first line")
    (project.directory / job / "RELION_JOB_ABORT_NOW").touch()
    pipeliner.communicate(timeout=240)
    assert project.status(job) == "Aborted"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_ABORTED"]
    assert project.nodes(job) == {}
    assert project.read(job, "run.err") == ""
    assert "pickbias_relion_outliers --o External/job001/ " in project.read(job, "run_submit.script")
    assert project.read(job, "run.out").splitlines()[-1].startswith("aborted as RELION asked")

    project.again(job)
    assert project.status(job) == "Succeeded", project.read(job, "run.err")
    assert project.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    nodes, edges = project.nodes(job), project.edges(job)
    assert set(nodes) == {f"{job}{name}" for name in ("kept.star", "rejected.star", "logfile.pdf")}

    # A finished job with the same input has nothing to do, and says so again to RELION.
    names = ("kept.star", "rejected.star", "logfile.pdf", "summary.json", "scores.csv", "report.html")
    before = {name: (project.directory / job / name).stat().st_mtime_ns for name in names}
    project.again(job)
    assert project.status(job) == "Succeeded"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    assert {name: (project.directory / job / name).stat().st_mtime_ns for name in names} == before
    assert (project.nodes(job), project.edges(job)) == (nodes, edges)
    assert "this run is finished already; nothing to do" in project.read(job, "run.out")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("stack", "Particles/particles.star: line 26 names the stack 'Particles/stack.mrcs', which is not there; "),
        (
            "value",
            "--radius wide: input should be a valid number, unable to parse string as a number; "
            "correct it on the Params tab",
        ),
    ],
)
def test_a_fault_is_one_line_and_a_failed_job(relion_project: MakeProject, fault: str, line: str) -> None:
    project = relion_project("project")
    images, _ = blob_stack(10, 1, box=32)
    star = write_particles(project.directory, images, PIXEL_SIZE)
    options = outliers(project, str(star))
    if fault == "stack":
        (project.directory / "Particles" / "stack.mrcs").unlink()
    else:
        options["param1_value"] = "wide"
    job = project.run("External", **options)
    assert project.status(job) == "Failed"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_FAILURE"]
    assert project.nodes(job) == {}
    text = project.read(job, "run.err")
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert text.startswith(line)


def test_real_particles_go_on_to_class2d(relion_project: MakeProject, data_dir: Path) -> None:
    source = data_dir / "particles" / "betagal_10204"
    if not source.is_dir():
        pytest.skip(f"the beta-galactosidase tutorial particles are not here ({source})")
    project = relion_project("betagal")
    star = Path("Extract/job009/particles.star")
    for path in (source / "Extract" / "job009" / "Movies").glob("*.mrcs"):
        target = project.directory / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.open(path, permissive=True) as stack:
            # RELION 3.1 refuses the 16-bit floats that RELION 5 wrote (mode 12).
            assert stack.header.mode == 12
            mrcfile.write(target, stack.data.astype(np.float32), voxel_size=stack.voxel_size)
    shutil.copyfile(source / star, project.directory / star)
    particles = import_particles(project, star)
    job = project.run("External", **outliers(project, particles, param1_value=80))
    assert project.read(job, "run.err") == ""
    assert project.status(job) == "Succeeded"
    kept = images_of(project.directory / job / "kept.star")
    # 580 when this was written, and 119 rejected as noise.
    assert 500 < len(kept) < 660
    classes = class2d(project, f"{job}kept.star", 200, "Yes")
    assert project.status(classes) == "Succeeded", project.read(classes, "run.err")
    assert images_of(project.directory / classes / "run_it002_data.star") == kept
