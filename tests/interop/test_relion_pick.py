"""Picking in real RELION projects: Import -> External -> Extract, and the coordinates that RELION finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pypdf
import pytest
import starfile
from interop.relion_project import RelionProject
from scipy.spatial import cKDTree

from napari_pickbias.cli.main import main
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters
from napari_pickbias.records import write_mrc
from napari_pickbias.runs.simulate_micrographs import run_simulate_micrographs
from pickbias_relion.nodes import NODE_TYPES

pytestmark = pytest.mark.interop
MakeProject = Callable[[str], RelionProject]
COORDINATES, LOG = (set(NODE_TYPES[kind]) for kind in ("coordinates", "log"))
PIXEL_SIZE, RADIUS, BOX = 10.0, 100.0, 32


@pytest.fixture
def lab(relion_project: MakeProject) -> RelionProject:
    """A project with three micrographs of 14 particles each, imported, and their map."""
    project = relion_project("relion_lab")
    parameters = SimulateMicrographsParameters(
        count=3, size=400, pixel_size=PIXEL_SIZE, per_micrograph=14, radius=RADIUS, elongation=1.6, snr=0.1, ctf=False
    )
    for _ in run_simulate_micrographs(parameters, project.directory / "Made", report=False):
        pass
    write_mrc(project.directory / "map.mrc", blob_volume(phantom(RADIUS / PIXEL_SIZE, elongation=1.6), BOX), PIXEL_SIZE)
    job = project.run(
        "Import",
        do_raw="Yes",
        do_other="No",
        fn_in_raw="Made/micrographs/*.mrc",
        is_multiframe="No",
        angpix=PIXEL_SIZE,
        kV=300,
        Cs=2.7,
        Q0=0.1,
    )
    assert project.status(job) == "Succeeded"
    return project


def pick(**more: object) -> dict[str, object]:
    """Return the options of the External job."""
    options: dict[str, object] = {"fn_exe": "pickbias_relion_pick", "in_mic": "Import/job001/micrographs.star"}
    words = {"angular_step": 30, "lowpass": 40, **more}
    for number, (label, value) in enumerate(words.items(), 1):
        options |= {f"param{number}_label": label, f"param{number}_value": value}
    return options | {"in_3dref": "map.mrc", "nr_threads": 2}


def test_import_pick_extract(lab: RelionProject) -> None:
    job = lab.run("External", **pick(fdr=0.05))
    assert lab.read(job, "run.err") == ""
    assert lab.status(job) == "Succeeded"
    assert lab.exit_files(job) == ["RELION_JOB_EXIT_SUCCESS"]
    names = [f"{job}{name}" for name in ("coords_suffix_picks.star", "coordinates.star", "logfile.pdf")]
    nodes = lab.nodes(job)
    assert list(nodes) == names
    assert {nodes[names[0]], nodes[names[1]]} <= COORDINATES
    assert nodes[names[2]] in LOG
    into, out_of = lab.edges(job)
    assert into >= {"Import/job001/micrographs.star"}
    assert out_of == set(names)
    assert len(pypdf.PdfReader(lab.directory / names[2]).pages) >= 1
    summary = json.loads(lab.read(job, "summary.json"))["results"]
    out = lab.read(job, "run.out").splitlines()
    assert any(line.startswith(f"{summary['picks']} picks on 3 micrographs from a score of ") for line in out)

    # The picks lie on the particles.
    truth = starfile.read(lab.directory / "Made" / "truth.star")["particles"]
    hits = 0
    for name, rows in truth.groupby("rlnMicrographName"):
        file = lab.directory / job / "Made" / str(name).replace(".mrc", "_picks.star")
        picks = starfile.read(file)
        tree = cKDTree(picks[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy())
        distance, _ = tree.query(rows[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy())
        hits += int((distance < 4).sum())
    # 24 to 34 of 42 over five seeds, and 5 to 11 others: weak particles, some too near to the border to be searched.
    assert hits >= 20
    assert summary["picks"] - hits <= 16

    # RELION cuts the particles out where the picks are.
    extract = lab.run(
        "Extract",
        star_mics="Import/job001/micrographs.star",
        coords_suffix=names[0],
        extract_size=BOX,
        do_norm="No",
        do_invert="Yes",
        nr_mpi=1,
    )
    assert lab.status(extract) == "Succeeded", lab.read(extract, "run.err")
    assert lab.edges(extract)[0] == {"Import/job001/micrographs.star", names[0]}
    particles = starfile.read(lab.directory / extract / "particles.star")["particles"]
    # Boxes that leave the micrograph are left out by RELION.
    assert summary["picks"] - 6 <= len(particles) <= summary["picks"]
    assert {"rlnAutopickFigureOfMerit", "rlnClassNumber", "rlnAnglePsi"} <= set(particles.columns)
    images = []
    for image in particles["rlnImageName"]:
        number, path = image.split("@")
        with mrcfile.mmap(lab.directory / path, permissive=True) as stack:
            images.append(np.array(stack.data[int(number) - 1]) if stack.data.ndim == 3 else np.array(stack.data))
    mean = np.mean(images, axis=0)
    y, x = np.indices(mean.shape) - BOX // 2
    middle, rim = np.hypot(x, y) < 4, np.hypot(x, y) > 14
    assert mean[middle].mean() - mean[rim].mean() > 2 * mean[rim].std()
    look_for_class_averages(lab, f"{extract}particles.star", truth)


def look_for_class_averages(lab: RelionProject, particles: str, truth: pd.DataFrame) -> None:
    """RELION's own class averages of those particles find them again, by either of its two files."""
    refine = (
        f"relion_refine --o Class2D/run --i {particles} --iter 2 --K 2 --particle_diameter 240 --tau2_fudge 2 --norm"
    )
    more = "--scale --oversampling 1 --psi_step 12 --offset_range 3 --offset_step 2 --zero_mask --flatten_solvent"
    (lab.directory / "Class2D").mkdir()
    lab.call(*refine.split(), *more.split(), "--pool", "10", "--dont_check_norm", "--random_seed", "1")
    tables = []
    for name in ("run_it002_model.star", "run_it002_classes.mrcs"):
        words = ["--lowpass", "40", "--angular-step", "30", "--threshold", "4.5", "--threads", "2", "--quiet"]
        where = ["--micrographs", str(lab.directory / "Import/job001/micrographs.star"), "--diameter", "200"]
        out = lab.directory / f"by_{name}"
        assert (
            main(["pick", *where, "--templates", str(lab.directory / "Class2D" / name), *words, "--out", str(out)]) == 0
        )
        tables.append(starfile.read(out / "picks.star"))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert set(tables[0]["rlnClassNumber"]) <= {1, 2}
    hits = 0
    for name, rows in truth.groupby("rlnMicrographName"):
        picks = tables[0][[Path(path).name == Path(str(name)).name for path in tables[0]["rlnMicrographName"]]]
        away, _ = cKDTree(picks[["rlnCoordinateX", "rlnCoordinateY"]]).query(rows[["rlnCoordinateX", "rlnCoordinateY"]])
        hits += int((away < 5).sum())
    assert hits >= 15
    assert len(tables[0]) - hits <= 16


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("none", "no pick reaches 60: the highest score is "),
        ("both", "--threshold 4 --fdr 0.1: each sets the threshold; give one of them"),
        ("no_map", "--in_3dref, --templates: neither is given; choose a map under "),
    ],
)
def test_a_fault_is_one_line_and_a_failed_job(lab: RelionProject, fault: str, line: str) -> None:
    options = pick(threshold=60) if fault == "none" else pick(threshold=4, fdr=0.1) if fault == "both" else pick()
    if fault == "no_map":
        options.pop("in_3dref")
    job = lab.run("External", **options)
    assert lab.status(job) == "Failed"
    assert lab.exit_files(job) == ["RELION_JOB_EXIT_FAILURE"]
    assert lab.nodes(job) == {}
    text = lab.read(job, "run.err")
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert text.startswith(line)


def test_templates_by_name_and_continue(lab: RelionProject) -> None:
    volume = blob_volume(phantom(RADIUS / PIXEL_SIZE, elongation=1.6), BOX)
    with mrcfile.new(lab.directory / "classes.mrcs") as stack:
        stack.set_data(np.stack([volume.sum(axis=axis) for axis in (0, 1, 2)]).astype(np.float32))
        stack.set_image_stack()
        stack.voxel_size = PIXEL_SIZE
    options = pick(threshold=5, templates="classes.mrcs")
    options.pop("in_3dref")
    job = lab.run("External", **options)
    assert lab.status(job) == "Succeeded", lab.read(job, "run.err")
    before = Path(lab.directory / job / "coordinates.star").stat().st_mtime_ns
    lab.again(job)
    assert lab.status(job) == "Succeeded"
    assert Path(lab.directory / job / "coordinates.star").stat().st_mtime_ns == before
    assert "this run is finished already; nothing to do" in lab.read(job, "run.out")
    found = starfile.read(lab.directory / job / "picks.star")
    assert set(found["rlnClassNumber"]) <= {1, 2, 3}
