"""The command line as RELION writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pickbias.errors import InputError
from napari_pickbias.jobs.outlier_parameters import OutlierParameters
from pickbias_relion.external_arguments import job_directory, parse_call

RELIONS = ["--o", "External/job002/", "--in_parts", "Import/job001/particles.star"]


def parse(words: list[str]) -> tuple[object, OutlierParameters, list[str]]:
    return parse_call("program", words, OutlierParameters, ["in_parts"])


def test_every_argument_that_relion_can_give() -> None:
    line = (
        "--o External/job002/ --in_movies m.star --in_mics c.star --in_parts p.star --in_coords k.star "
        "--in_3dref r.mrc --in_mask s.mrc --radius 80 --remove_when_hopeless --j 7 --seed 3 "
        "--pipeline_control External/job002/"
    )
    call, parameters, notes = parse(line.split())
    assert call.directory == Path("External/job002")
    assert call.inputs == {
        "in_movies": "m.star",
        "in_mics": "c.star",
        "in_parts": "p.star",
        "in_coords": "k.star",
        "in_3dref": "r.mrc",
        "in_mask": "s.mrc",
    }
    assert call.threads == 7
    assert parameters == OutlierParameters(radius=80, remove_when_hopeless=True, seed=3)
    assert notes == []


def test_every_parameter_is_an_option_in_both_spellings() -> None:
    values = {"radius": "80.5", "method": "reference", "contrast": "black", "phase_flip": "no"}
    values |= {"false_keep_rate": "0.05", "pixel_size": "1.5", "working_box": "65", "remove_when_hopeless": "Yes"}
    values |= {"fit_images": "500", "seed": "9", "points": "12", "kernel_px": "5", "eps_px": "2.5"}
    values |= {"min_points": "4", "edge_px": "30"}
    assert set(values) == set(OutlierParameters.model_fields)
    expected = OutlierParameters(**values)
    for spelling in (str, lambda name: name.replace("_", "-")):
        words = [word for name, value in values.items() for word in (f"--{spelling(name)}", value)]
        assert parse(RELIONS + words)[1] == expected
    joined = [f"--{name}={value}" for name, value in values.items()]
    assert parse(RELIONS + joined)[1] == expected


@pytest.mark.parametrize(("text", "value"), [("Yes", True), ("no", False), ("1", True), ("false", False)])
def test_a_flag_takes_a_value_too(text: str, value: bool) -> None:
    assert parse([*RELIONS, "--remove_when_hopeless", text])[1].remove_when_hopeless is value


def test_a_label_typed_with_its_hyphens() -> None:
    assert parse([*RELIONS, "----radius", "80"])[1].radius == 80


def test_one_thread_where_relion_names_none() -> None:
    assert parse(RELIONS)[0].threads == 1


def test_unknown_arguments_are_noted_and_tolerated() -> None:
    call, parameters, notes = parse([*RELIONS, "--radius", "80", "angstrom", "--radios", "70", "--gpu", "--j", "2"])
    assert (call.threads, parameters.radius) == (2, 80)
    assert notes == [
        'the word "angstrom" belongs to no option and was ignored; quote values that hold blanks',
        "--radios is not known here and was ignored; did you mean --radius?",
        "--gpu is not known here and was ignored",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--radius", "abc"],
            "--radius abc: input should be a valid number, unable to parse string as a number; "
            "correct it on the Params tab",
        ),
        (["--radius", "-5"], "--radius -5: input should be greater than 0; correct it on the Params tab"),
        (
            ["--contrast", "grey", "--points", "0"],
            "--contrast grey: input should be 'auto', 'white' or 'black'; "
            "--points 0: input should be greater than or equal to 2; correct it on the Params tab",
        ),
        (
            ["--false-keep-rate", "0.7"],
            "--false_keep_rate 0.7: input should be less than 0.5; correct it on the Params tab",
        ),
        (
            ["--remove_when_hopeless", "perhaps"],
            "--remove_when_hopeless perhaps: input should be a valid boolean, unable to interpret input; "
            "correct it on the Params tab",
        ),
        (["--radius"], "--radius: has no value; fill in the field beside this label on the Params tab"),
        (["--radius", ""], "--radius: has no value; fill in the field beside this label on the Params tab"),
        (["--j", "two"], "--j two: is no number of threads; give 1 or more on the Running tab"),
        (["--j", "0"], "--j 0: is no number of threads; give 1 or more on the Running tab"),
        (["--j"], "--j: is no number of threads; give 1 or more on the Running tab"),
        (["--in_mask"], '--in_mask: no file was given; choose one under "Input 3D mask" on the Input tab'),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(words: list[str], line: str) -> None:
    with pytest.raises(InputError) as fault:
        parse(RELIONS + words)
    assert str(fault.value) == line


def test_a_missing_input_is_named_as_the_gui_names_it() -> None:
    with pytest.raises(InputError) as fault:
        parse(["--o", "External/job002/"])
    assert str(fault.value) == '--in_parts: no file was given; choose one under "Input particles" on the Input tab'


def test_a_missing_directory_says_how_to_give_it() -> None:
    with pytest.raises(InputError) as fault:
        parse(["--in_parts", "p.star"])
    assert str(fault.value) == (
        "--o: the job's directory is missing; RELION gives it, by hand add --o External/job001/"
    )


def test_help_names_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in OutlierParameters.model_fields)


@pytest.mark.parametrize(
    ("words", "directory"),
    [
        (["--o", "External/job002/"], "External/job002"),
        (["--o", "./External//job002/"], "External/job002"),
        (["--o=External/job002"], "External/job002"),
        (["--j", "1", "--pipeline_control", "External/job003/"], "External/job003"),
        (["--pipeline_control", "External/job003/", "--o", "External/job002/"], "External/job002"),
        (["--o", "--pipeline_control", "External/job003/"], "External/job003"),
        (["--o"], None),
        (["--o", ""], None),
        (["--j", "2"], None),
        ([], None),
    ],
)
def test_the_directory_is_found_before_anything_else(words: list[str], directory: str | None) -> None:
    assert job_directory(words) == (None if directory is None else Path(directory))


WORDS = st.one_of(
    st.sampled_from(
        ["--o", "--j", "--radius", "--in_parts", "--seed", "--", "-", "80", "External/job002/", "--x=y", ""]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.lists(WORDS, max_size=10))
def test_no_command_line_ends_in_anything_but_an_answer_or_one_line(words: list[str]) -> None:
    try:
        call, _, notes = parse([*RELIONS, *words])
    except (InputError, SystemExit) as end:
        # --help and --version may be drawn, and end well.
        fine = end.code == 0 if isinstance(end, SystemExit) else "\n" not in str(end)
    else:
        fine = call.directory == Path("External/job002") and all(isinstance(note, str) for note in notes)
    assert fine
