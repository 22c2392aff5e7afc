"""Soft modes in real RELION projects: Import of map and particles -> External, and the noise of real half maps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import starfile
from interop.relion_project import RelionProject

from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project as projections
from napari_pickbias.imaging.rotations import matrices_from_euler, random_euler
from napari_pickbias.records import read_volume, write_mrc
from pickbias_relion.nodes import NODE_TYPES

pytestmark = pytest.mark.interop
MakeProject = Callable[[str], RelionProject]
SIZE, COUNT, PIXEL, NOISE = 16, 240, 4.0, 3.0
MAPS, PARTICLES, LOG = (set(NODE_TYPES[kind]) for kind in ("map", "particles", "log"))


def write_data(directory: Path, *, poses: bool = True, noise: float = NOISE) -> tuple[Path, Path]:
    """Write a phantom's noisy projections, as Refine3D would leave them, and the phantom; paths in the project."""
    rng = np.random.default_rng(0)
    volume = blob_volume(phantom(4.4), SIZE)
    angles = random_euler(COUNT, rng)
    images = projections(volume, matrices_from_euler(angles)) + noise * rng.standard_normal((COUNT, SIZE, SIZE))
    (directory / "Refine").mkdir()
    write_mrc(directory / "Refine" / "run_class001.mrc", volume, PIXEL)
    write_mrc(directory / "Refine" / "stack.mrcs", images.astype(np.float32), PIXEL)
    labels = ["rlnImageName", "rlnOpticsGroup", "rlnRandomSubset"]
    labels += ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"] if poses else []
    rows = [
        f"{i + 1:06d}@Refine/stack.mrcs 1 {i % 2 + 1} " + (" ".join(f"{a:.4f}" for a in angles[i]) if poses else "")
        for i in range(COUNT)
    ]
    optics = ["rlnOpticsGroup", "rlnOpticsGroupName", "rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality"]
    optics += ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"]
    text = "# version 30001\n\ndata_optics\n\nloop_\n" + "".join(f"_{n} #{i + 1}\n" for i, n in enumerate(optics))
    text += f"1 one {PIXEL} {SIZE} 2 300.0 2.7 0.1\n\n# version 30001\n\ndata_particles\n\nloop_\n"
    text += "".join(f"_{n} #{i + 1}\n" for i, n in enumerate(labels)) + "\n".join(rows) + "\n"
    (directory / "Refine" / "run_data.star").write_text(text)
    return Path("Refine/run_data.star"), Path("Refine/run_class001.mrc")


def imported(project: RelionProject, path: Path, kind: str) -> str:
    job = project.run("Import", do_raw="No", do_other="Yes", fn_in_other=path, node_type=kind)
    assert project.status(job) == "Succeeded"
    return f"{job}{path.name}"


def softmodes(particles: str, reference: str, **more: object) -> dict[str, object]:
    """Return the options of the External job."""
    options = {"fn_exe": "pickbias_relion_softmodes", "in_part": particles, "in_3dref": reference, "nr_threads": 1}
    return options | {"param1_label": "modes", "param1_value": 2} | more


def test_import_softmodes_and_continue(relion_project: MakeProject) -> None:
    project = relion_project("relion_lab")
    star, volume = write_data(project.directory)
    particles = imported(project, star, "Particles STAR file (.star)")
    reference = imported(project, volume, "3D reference (.mrc)")
    (project.directory / "Refine" / "stack.mrcs").unlink()  # no image is read
    job = project.run("External", **softmodes(particles, reference))
    assert project.read(job, "run.err") == ""
    assert project.status(job) == "Succeeded"
    assert project.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    modes = [f"mode_{number:02d}{end}.mrc" for number in (1, 2) for end in ("", "_plus", "_minus")]
    names = [f"{job}{name}" for name in ("uncertainty.mrc", *modes, "particles_softmodes.star", "logfile.pdf")]
    nodes = project.nodes(job)
    assert list(nodes) == names
    assert all(nodes[name] in MAPS for name in names[:-2])
    assert nodes[names[-2]] in PARTICLES
    assert nodes[names[-1]] in LOG
    assert project.edges(job) == ({particles, reference}, set(names))
    out = project.read(job, "run.out")
    assert "verdict: determined: " in out
    assert out.splitlines()[-1] == f"report as PDF: {job}logfile.pdf"
    found = starfile.read(project.directory / job / "particles_softmodes.star", always_dict=True)["particles"]
    assert len(found) == COUNT
    assert {"pickbiasRotationSd", "pickbiasMode01Turn"} <= set(found.columns)
    # RELION reads the maps it was told of, and the particles with their new columns.
    project.call("relion_image_handler", "--i", names[2], "--stats")
    project.call("relion_star_handler", "--i", names[-2], "--o", "again.star")
    assert read_volume(project.directory / names[0]).data.shape == (SIZE,) * 3

    before = (project.directory / job / "summary.json").stat().st_mtime_ns
    project.again(job)
    assert project.status(job) == "Succeeded"
    assert (project.directory / job / "summary.json").stat().st_mtime_ns == before
    assert list(project.nodes(job)) == names
    assert "this run is finished already; nothing to do" in project.read(job, "run.out")


def test_no_poses_are_one_line_and_a_failed_job(relion_project: MakeProject) -> None:
    project = relion_project("project")
    star, volume = write_data(project.directory, poses=False)
    job = project.run("External", **softmodes(str(star), str(volume)))
    assert project.status(job) == "Failed"
    text = project.read(job, "run.err")
    assert text.startswith("--particles: has no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi); give ")
    assert len(text.splitlines()) == 1


def test_after_a_real_refinement(relion_project: MakeProject) -> None:
    """Refine3D's own job in the pipeline, auto-refinement with two halves; then the External job on what it wrote."""
    if shutil.which("relion_refine_mpi") is None or shutil.which("mpirun") is None:
        pytest.skip("RELION's MPI programs, or mpirun, are not installed: auto-refinement needs both")
    project = relion_project("refine")
    project.environment.update(
        OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1"
    )
    star, volume = write_data(project.directory, noise=0.05)
    refined = project.run(
        "Refine3D", fn_img=star, fn_ref=volume, ref_correct_greyscale="Yes", ini_high=20, do_ctf_correction="No",
        particle_diameter=60, sampling="15 degrees", auto_local_sampling="15 degrees", offset_range=2, offset_step=2,
        do_pad1="Yes", nr_mpi=3, nr_threads=1, sym_name="C1", use_gpu="No",
    )  # fmt: skip
    assert project.status(refined) == "Succeeded", project.read(refined, "run.err")
    job = project.run("External", **softmodes(f"{refined}run_data.star", f"{refined}run_class001.mrc"))
    assert project.status(job) == "Succeeded", project.read(job, "run.err")
    summary = json.loads(project.read(job, "summary.json"))
    # the noise is the refinement's own: its model lies beside its particles
    assert summary["parameters"]["noise"] == f"{refined}run_model.star"
    assert summary["results"]["noise_variance"] == pytest.approx(0.05**2, rel=0.25)
    assert 0 < summary["results"]["eigenvalues"][0] < 1
    assert {f"{refined}run_data.star", f"{refined}run_class001.mrc"} == project.edges(job)[0]
    found = starfile.read(project.directory / job / "particles_softmodes.star", always_dict=True)["particles"]
    assert len(found) == COUNT


def test_half_maps_of_relion_reconstruct_give_the_noise_of_the_images(relion_project: MakeProject) -> None:
    """White noise of a known variance, reconstructed by RELION: units and weights of a real pair of half maps."""
    project = relion_project("halves")
    star, volume = write_data(project.directory)
    for half in ("1", "2"):
        name = f"Refine/run_half{half}_class001_unfil.mrc"
        project.call("relion_reconstruct", "--i", str(star), "--o", name, "--subset", half, "--pad", "2")
    more = {"param2_label": "noise", "param2_value": "Refine/run_half2_class001_unfil.mrc"}
    job = project.run("External", **softmodes(str(star), str(volume), **more))
    assert project.status(job) == "Succeeded", project.read(job, "run.err")
    results = json.loads(project.read(job, "summary.json"))["results"]
    # 3 % off when this was written; RELION's interpolation correlates neighbours and dampens the edge of the box.
    assert results["noise_variance"] == pytest.approx(NOISE**2, rel=0.2)
    assert not any("--noise" in text for text in results["warnings"])
