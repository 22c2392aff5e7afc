"""The External program of soft modes: where it looks for the noise, what it announces, its last lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.softmodes_parameters import SoftmodesParameters
from pickbias_relion.external_arguments import Call
from pickbias_relion.external_softmodes import OUTPUTS, _of_run, closing_lines, model_beside, run


def test_the_model_of_the_refinement_is_taken(tmp_path: Path) -> None:
    data = tmp_path / "run_it025_data.star"
    assert model_beside(data) is None
    (tmp_path / "run_it025_model.star").write_text("")
    assert model_beside(data) == tmp_path / "run_it025_model.star"
    assert model_beside(tmp_path / "particles.star") is None


def test_modes_and_particles_of_earlier_runs_are_not_announced() -> None:
    announced = [name for name in OUTPUTS if _of_run(name, SoftmodesParameters(modes=2, views="uniform"))]
    modes = [f"mode_{number:02d}{end}.mrc" for number in (1, 2) for end in ("", "_plus", "_minus")]
    assert announced == ["uncertainty.mrc", *modes, "logfile.pdf"]
    assert _of_run("particles_softmodes.star", SoftmodesParameters())


def test_the_last_lines_say_what_was_found() -> None:
    results = {
        "verdict": "missing_views",
        "verdict_text": "views are missing",
        "eigenvalues": [0.01],
        "known_pose_eigenvalues": [0.02],
        "amplitude_fraction": [0.031],
        "warnings": ["no --noise given"],
    }
    assert closing_lines(results, Path("External/job003")) == [
        "verdict: missing views: views are missing",
        "mode 1: eigenvalue 0.01, known poses 0.02, amplitude 3.10%",
        "WARNING: no --noise given",
        "report: External/job003/report.html",
        "report as PDF: External/job003/logfile.pdf",
    ]


def test_particles_that_are_no_star_file_are_refused(tmp_path: Path) -> None:
    call = Call(tmp_path, {"in_parts": "a.cs", "in_3dref": "map.mrc"}, 1)
    with pytest.raises(InputError, match=r"--in_parts a\.cs: is no STAR file; choose one under"):
        next(run(call, SoftmodesParameters()))
