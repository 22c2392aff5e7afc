"""The diagnosis as an External job, and RELION's own 2-D classification of its noise twin.

Micrographs of nothing but white noise are picked with a template. RELION's class average of these picks looks like the
template; that of as many random patches of the same noise does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from interop.relion_project import RelionProject
from scipy.ndimage import rotate, shift

from napari_pickbias.imaging.fourier import apply_filter, band_filter
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.records import write_mrc

pytestmark = pytest.mark.interop
MakeProject = Callable[[str], RelionProject]
PIXEL, LOWPASS = 7.0, 40.0


def write_noise_project(folder: Path) -> np.ndarray:
    """Write noise micrographs, their STAR and a template; return the template as it picks."""
    rng = np.random.default_rng(7)
    volume = blob_volume(phantom(11.0, elongation=1.5), 32)
    template = np.asarray(
        project(fourier_volume(volume), matrices_from_euler(np.array([[0.0, 90.0, 0.0]]))), np.float32
    )
    write_mrc(folder / "templates.mrcs", template, PIXEL, stack=True)
    (folder / "mics").mkdir()
    names = [f"mics/noise{number}.mrc" for number in range(2)]
    for name in names:
        write_mrc(folder / name, rng.standard_normal((704, 704)).astype(np.float32), PIXEL)
    (folder / "micrographs.star").write_text(
        "\n# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroupName #1\n_rlnOpticsGroup #2\n_rlnVoltage #3\n"
        "_rlnSphericalAberration #4\n_rlnAmplitudeContrast #5\n_rlnMicrographPixelSize #6\n"
        f"opticsGroup1 1 300.0 2.7 0.1 {PIXEL}\n\n\n# version 30001\n\ndata_micrographs\n\nloop_\n"
        "_rlnMicrographName #1\n_rlnOpticsGroup #2\n" + "".join(f"{name} 1\n" for name in names)
    )
    return apply_filter(template[0].astype(float), band_filter((32, 32), PIXEL, lowpass_angstrom=LOWPASS))[1:31, 1:31]


def likeness(average: np.ndarray, template: np.ndarray) -> float:
    """Return the highest correlation with the template over in-plane rotations and small shifts."""
    y, x = np.mgrid[:30, :30] - 15
    disc = np.hypot(x, y) < 13
    aim = template[disc] - template[disc].mean()

    def correlation(image: np.ndarray) -> float:
        values = image[disc] - image[disc].mean()
        return float(values @ aim / np.sqrt((values @ values) * (aim @ aim)))

    turned = [rotate(average.astype(float), angle, reshape=False, order=1) for angle in range(0, 360, 10)]
    moves = [(dy, dx) for dy in range(-3, 4) for dx in range(-3, 4)]
    return max(correlation(shift(image, move, order=1)) for image in turned for move in moves)


def classify(project_: RelionProject, star: str, out: str) -> np.ndarray:
    """Let RELION average the particles of a STAR in one class, orientations and places free."""
    (project_.directory / out).mkdir()
    words = [
        "relion_refine",
        "--iter",
        "4",
        "--K",
        "1",
        "--tau2_fudge",
        "2",
        "--particle_diameter",
        "190",
        "--flatten_solvent",
        "--zero_mask",
        "--oversampling",
        "0",
        "--psi_step",
        "20",
        "--offset_range",
        "2",
        "--offset_step",
        "1",
        "--norm",
        "--scale",
        "--dont_check_norm",
        "--pad",
        "1",
        "--pool",
        "30",
        "--j",
        "1",
        "--random_seed",
        "1",
    ]
    project_.call(*words, "--o", f"{out}/run", "--i", star)
    return mrcfile.read(project_.directory / out / "run_it004_classes.mrcs").reshape(30, 30)


def test_relions_class_average_of_the_noise_twin_is_the_template(relion_project: MakeProject) -> None:
    project_ = relion_project("noise")
    template = write_noise_project(project_.directory)
    values = {
        "templates": "templates.mrcs", "threshold": 3, "lowpass": LOWPASS, "diameter": 170, "angular_step": 20,
        "contrast": "white", "nulls": 8, "surrogates": 1,
    }  # fmt: skip
    options: dict[str, object] = {"fn_exe": "pickbias_relion_bias", "in_mic": "micrographs.star", "nr_threads": 1}
    for number, (label, value) in enumerate(values.items(), 1):
        options |= {f"param{number}_label": label, f"param{number}_value": value}
    job = project_.run("External", **options)
    assert project_.status(job) == "Succeeded"
    said = project_.read(job, "run.out")
    assert "VERDICT: " in said
    assert "VERDICT: data" not in said
    assert "VERDICT: mixed" not in said

    star = f"{job}twin/particles.star"
    assert likeness(classify(project_, star, "twin"), template) >= 0.8  # .86 seen
    # as many patches of the same noise from random places
    tables = starfile.read(project_.directory / star)
    count = len(tables["particles"])
    assert count > 300
    patches = np.random.default_rng(8).standard_normal((count, 30, 30)).astype(np.float32)
    write_mrc(project_.directory / "random.mrcs", patches, PIXEL, stack=True)
    tables["particles"]["rlnImageName"] = [f"{number + 1:06d}@random.mrcs" for number in range(count)]
    starfile.write(tables, project_.directory / "random.star")
    assert likeness(classify(project_, "random.star", "random"), template) < 0.7


def test_the_job_judges_the_picks_of_relions_own_autopick(relion_project: MakeProject) -> None:
    project_ = relion_project("autopick")
    write_noise_project(project_.directory)
    autopick = project_.run(
        "AutoPick", fn_input_autopick="micrographs.star", do_log="Yes", log_diam_min=130,
        log_diam_max=170, log_adjust_thr=-0.3, nr_mpi=1,
    )  # fmt: skip
    coordinates = f"{autopick}coords_suffix_autopick.star"
    assert project_.status(autopick) == "Succeeded", project_.read(autopick, "run.err")
    values = {
        "templates": "templates.mrcs", "lowpass": LOWPASS, "diameter": 170, "angular_step": 30, "contrast": "white",
        "nulls": 8, "surrogates": 1,
    }  # fmt: skip
    options: dict[str, object] = {
        "fn_exe": "pickbias_relion_bias", "in_mic": "micrographs.star", "in_coords": coordinates, "nr_threads": 1,
    }  # fmt: skip
    for number, (label, value) in enumerate(values.items(), 1):
        options |= {f"param{number}_label": label, f"param{number}_value": value}
    job = project_.run("External", **options)
    assert project_.status(job) == "Succeeded", project_.read(job, "run.err")
    into, out = project_.edges(job)
    assert coordinates in into
    assert {f"{job}twin/particles.star", f"{job}logfile.pdf"} <= out
    own = sum(len(starfile.read(path)) for path in (project_.directory / autopick).rglob("*_autopick.star")
              if path.parent.name == "mics")  # fmt: skip
    assert own > 100
    results = json.loads(project_.read(job, "summary.json"))["results"]
    assert 0.7 * own < results["observed_picks"] <= own  # those near the border are left out
    # blobs of noise that a picker of its own kind took: never data
    assert results["verdict"] in ("template", "undecided")
    assert results["null_fraction"] > 0.5
    assert f"VERDICT: {results['verdict']}" in project_.read(job, "run.out")
