"""The External program of the diagnosis: what it takes from the panel, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.bias_parameters import BiasParameters
from pickbias_relion.external_arguments import Call, parse_call
from pickbias_relion.external_bias import PROGRAM, closing_lines, load, run


def test_every_option_of_the_diagnosis_is_a_label() -> None:
    model = load().parameters
    assert set(BiasParameters.model_fields) < set(model.model_fields)
    words = ["--o", "External/job003/", "--in_mics", "m.star", "--templates", "t.mrcs", "--class_averages", "3"]
    words += ["--volume", "--bait", "auto", "--controls", "sphere,scrambled", "--select", "knockoff"]
    words += ["--poses", "run_data.star", "--averages", "c.mrcs", "--picks_pixel_size", "2.5"]
    words += ["--picker", "topaz extract -o {out} {micrographs}", "--picker_timeout", "60"]
    _, parameters, notes = parse_call(PROGRAM.name, words, model, PROGRAM.needs)
    assert notes == []
    assert (parameters.class_averages, parameters.volume, parameters.bait) == (3, True, "auto")
    assert (parameters.controls, parameters.select) == ("sphere,scrambled", "knockoff")
    assert (parameters.poses, parameters.averages, parameters.picks_pixel_size) == ("run_data.star", "c.mrcs", 2.5)
    assert (parameters.picker, parameters.picker_timeout) == ("topaz extract -o {out} {micrographs}", 60)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ({"in_mics": "m.mrc"}, {}, '--in_mics m.mrc: is no STAR file; choose one under "Input micrographs"'),
        ({"in_mics": "m.star"}, {}, "--in_3dref, --templates: neither is given; choose a map under"),
        (
            {"in_mics": "m.star", "in_3dref": "map.mrc"},
            {"templates": "t.mrcs"},
            "--in_3dref, --templates: both are given; choose a map under",
        ),
        (
            {"in_mics": "m.star", "in_3dref": "map.mrc"},
            {"averages": "nowhere.mrcs"},
            "--averages nowhere.mrcs: ",
        ),
    ],
)
def test_faults(inputs: dict[str, str], options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as fault:
        next(run(Call(tmp_path, inputs, 1), load().parameters(**options)))
    assert str(fault.value).startswith(message)


def test_the_last_lines_say_what_was_found(tmp_path: Path) -> None:
    results = {
        "verdict": "mixed", "why": "a third is noise", "agreement": "it agrees", "recommended_threshold": 4.256,
        "warnings": ["few picks"],
    }  # fmt: skip
    files = {"html": Path("External/job003/report.html"), "twin": Path("External/job003/twin/particles.star")}
    assert closing_lines(results, files) == [
        "VERDICT: mixed: a third is noise",
        "it agrees",
        "recommended threshold: 4.26",
        "WARNING: few picks",
        "report: External/job003/report.html",
        "picks of pure noise, as particles: External/job003/twin/particles.star",
    ]
