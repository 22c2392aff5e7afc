"""The command line that RELION gives an External job."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from pickbias_relion.project import project_path

if TYPE_CHECKING:
    from pydantic import BaseModel

INPUTS = {
    "in_movies": "Input movies",
    "in_mics": "Input micrographs",
    "in_parts": "Input particles",
    "in_coords": "Input coordinates",
    "in_3dref": "Input 3D reference",
    "in_mask": "Input 3D mask",
}
"""RELION's input arguments and what its Input tab calls them."""

_NO_VALUE = "\0"
"""Stands for an option given without a value; no command line can hold it."""


@dataclass(frozen=True)
class Call:
    """What RELION asked for.

    Attributes
    ----------
    directory : Path
        The job's directory (``--o``), relative to the project: ``External/job005``.
    inputs : dict
        The inputs given, by RELION's names: ``{"in_parts": "Import/job001/particles.star"}``.
    threads : int
        ``--j``.
    """

    directory: Path
    inputs: dict[str, str]
    threads: int


def job_directory(words: Sequence[str]) -> Path | None:
    """Return the job's directory, found before anything else can fail, or None where the command line has none.

    RELION always gives ``--o``; ``--pipeline_control`` holds the same directory and is the second best.
    """
    for option in ("--o", "--pipeline_control"):
        for position, word in enumerate(words):
            name, equals, value = word.partition("=")
            if name == option and not equals:
                value = "".join(words[position + 1 : position + 2])
            if name == option and value and not value.startswith("--"):
                return Path(project_path(value))
    return None


def parse_call(
    program: str, words: Sequence[str], model: type[BaseModel], needs: Sequence[str]
) -> tuple[Call, Any, list[str]]:
    """Read the command line of an External job.

    Parameters
    ----------
    program : str
        Name of the console script.
    words : sequence of str
        Arguments as RELION gives them: ``--o DIR``, ``--in_parts FILE`` and the like, up to ten ``--label value`` or
        ``--label``, ``--j N``, additional arguments, ``--pipeline_control DIR``.
    model : type of BaseModel
        The job's parameters; each field is an option, with underscores or with hyphens.
    needs : sequence of str
        Inputs that must be given: keys of :data:`INPUTS`.

    Returns
    -------
    call, parameters, notes
        The call, the validated parameters, and one line for each argument that was not understood: RELION hands over
        what it likes, so those are no fault.

    Raises
    ------
    InputError
        Naming the option at fault.
    SystemExit
        After ``--help`` and ``--version``.
    """
    # A label typed with its hyphens comes as "----radius".
    words = [re.sub(r"^-{3,}(?=[A-Za-z])", "--", word) for word in words]
    found, strange = _parser(program, model).parse_known_args(words)
    given = vars(found)
    directory = job_directory(words)
    if directory is None:
        raise InputError("--o: the job's directory is missing; RELION gives it, by hand add --o External/job001/")
    inputs = {name: given[name] for name in INPUTS if given[name] is not None}
    for name in [*inputs, *needs]:
        if inputs.get(name, _NO_VALUE) in {"", _NO_VALUE}:
            raise InputError(f'--{name}: no file was given; choose one under "{INPUTS[name]}" on the Input tab')
    parameters = _validated(model, {name: given[name] for name in model.model_fields if given[name] is not None})
    known = [*model.model_fields, *INPUTS]
    return Call(directory, inputs, _threads(given["j"])), parameters, _notes(strange, known)


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would leave the program: a job that ends without an exit file runs for ever."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"the command line cannot be read: {message}; correct the parameters on the Params tab")


def _parser(program: str, model: type[BaseModel]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        allow_abbrev=False,
        description="A program for RELION's External job type: RELION gives the arguments (docs/relion.md).",
    )
    # nargs="?": RELION writes a label without value as a bare flag, and the line that says so should be ours.
    settings: dict[str, Any] = {"nargs": "?", "const": _NO_VALUE}
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--o", metavar="DIR", help="the job's directory", **settings)
    for name, text in INPUTS.items():
        parser.add_argument(f"--{name}", metavar="FILE", help=text.lower(), **settings)
    parser.add_argument("--j", metavar="N", help="threads", **settings)
    parser.add_argument("--pipeline_control", metavar="DIR", help="given by RELION; the same as --o", **settings)
    group = parser.add_argument_group("parameters (labels and values on the Params tab)")
    for name, field in model.model_fields.items():
        default = "" if field.default is None else f" (default {field.default})"
        names = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        text = (field.description or "").replace("%", "%%")
        group.add_argument(*names, dest=name, metavar="VALUE", help=text + default, **settings)
    return parser


def _validated(model: type[BaseModel], values: Mapping[str, str]) -> Any:
    from pydantic import ValidationError

    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if value in {"", _NO_VALUE}:
            if model.model_fields[name].annotation is not bool:
                raise InputError(f"--{name}: has no value; fill in the field beside this label on the Params tab")
            chosen[name] = True
        else:
            chosen[name] = value
    try:
        return model(**chosen)
    except ValidationError as error:
        faults = [
            f"--{'.'.join(map(str, fault['loc']))} {fault['input']}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
            for fault in error.errors()
        ]
        raise InputError(f"{'; '.join(faults)}; correct it on the Params tab") from error


def _threads(text: str | None) -> int:
    if text is None:
        return 1
    if not text.isdecimal() or int(text) < 1:
        shown = "" if text == _NO_VALUE else f" {text}"
        raise InputError(f"--j{shown}: is no number of threads; give 1 or more on the Running tab")
    return int(text)


def _notes(strange: Sequence[str], known: Sequence[str]) -> list[str]:
    notes: list[str] = []
    option = False
    for word in strange:
        if not word.startswith("-"):
            # What follows an unknown option is its value, and was named with it.
            if not option:
                notes.append(f'the word "{word}" belongs to no option and was ignored; quote values that hold blanks')
            continue
        option = True
        name = word.lstrip("-").partition("=")[0].replace("-", "_")
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean --{close[0]}?" if close else ""
        notes.append(f"{word.partition('=')[0]} is not known here and was ignored{hint}")
    return notes
