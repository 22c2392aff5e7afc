"""The command line of ``pickbias-cryosparc``. A new job is a module with a :class:`Job` and a line in ``JOBS``."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from typing import TYPE_CHECKING, Any, NoReturn

from napari_pickbias import __version__
from napari_pickbias.errors import InputError
from pickbias_cryosparc.live_job import Call, Input, Job, Place

if TYPE_CHECKING:
    from pydantic import BaseModel

JOBS = {
    "outliers": "pickbias_cryosparc.live_outliers",
    "softmodes": "pickbias_cryosparc.live_softmodes",
    "pick": "pickbias_cryosparc.live_pick",
    "pickfree": "pickbias_cryosparc.live_pickfree",
    "bias": "pickbias_cryosparc.live_bias",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def read_command(words: list[str]) -> tuple[str, Call, Any, Job]:
    """Return a job's name, the call, its parameters and the job.

    Raises
    ------
    InputError
        For each fault of usage.
    SystemExit
        After help and version.
    """
    top = _Parser(
        prog="pickbias-cryosparc",
        description="Run a job on data of a running CryoSPARC, as an external job. Log in once with: "
        "python -m cryosparc.tools login --url URL",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(dest="job", metavar="JOB", required=True, parser_class=_Parser)
    jobs: dict[str, Job] = {}
    for name, module in JOBS.items():
        jobs[name] = importlib.import_module(module).JOB
        parser = commands.add_parser(name, help=jobs[name].help, description=jobs[name].help, allow_abbrev=False)
        _add_arguments(parser, jobs[name])
    given = vars(top.parse_args(words))
    job = jobs[given["job"]]
    parameters = _validated(job.parameters, given)
    call = Call(
        url=given["url"],
        project=_uid("PROJECT", "P", given["project"]),
        workspace=_uid("WORKSPACE", "W", given["workspace"]),
        places=_places(job, given),
        resume=_uid("--resume", "J", given["resume"]) if given["resume"] else None,
        threads=_threads(given["threads"]),
        title=given["title"] or "",
        quiet=given["quiet"],
    )
    return given["job"], call, parameters, job


def _add_arguments(parser: argparse.ArgumentParser, job: Job) -> None:
    url = os.environ.get("CRYOSPARC_BASE_URL")
    main = job.inputs[0]
    parser.add_argument("project", metavar="PROJECT", help="such as P3")
    parser.add_argument("workspace", metavar="WORKSPACE", help="such as W1; the external job is made there")
    parser.add_argument("source", metavar="SOURCE_JOB", help=f"job that has the {main.plural}, such as J12")
    parser.add_argument("--url", default=url, help="CryoSPARC's address in your browser; default: CRYOSPARC_BASE_URL")
    parser.add_argument("--output", metavar="NAME", help="output of SOURCE_JOB; needed where it has several")
    for wanted in job.inputs[1:]:
        parser.add_argument(f"--{wanted.name}", metavar="JOB[.OUTPUT]", dest=f"input_{wanted.name}", help=wanted.help)
    parser.add_argument("--title", help=f"title of the external job (default {job.title})")
    parser.add_argument("--resume", metavar="JOB", help="go on with the unfinished run of that external job")
    parser.add_argument("--threads", metavar="N", help="default: all cores this process may use")
    parser.add_argument("--quiet", action="store_true", help="nothing on standard output")
    group = parser.add_argument_group("parameters")
    taken = {wanted.name for wanted in job.inputs}
    for name, info in job.parameters.model_fields.items():
        # What is on unless said otherwise is switched off by its name.
        on = info.default is True
        default = "" if info.default is None or info.annotation is bool else f" (default {info.default})"
        text = ("not: " if on else "") + (info.description or "").replace("%", "%%") + default
        # An input of that name keeps it: --volume names the job that has the map, --with-volume asks for maps.
        option = ("--no-" if on else "--with-" if name in taken else "--") + name.replace("_", "-")
        if info.annotation is bool:
            group.add_argument(option, dest=f"parameter_{name}", action="store_const", const=not on, help=text)
        else:
            group.add_argument(option, dest=f"parameter_{name}", metavar="VALUE", help=text)


def _validated(model: type[BaseModel], given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    values = {name: given[f"parameter_{name}"] for name in model.model_fields}
    try:
        return model(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        if first["type"] == "missing":
            raise InputError(f"{option}: is missing; see its help") from None
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{option} {first['input']}: {message[:1].lower()}{message[1:]}") from None


def _places(job: Job, given: dict[str, Any]) -> dict[str, Place]:
    """Return the job, and the output where one is named, that each input is taken from."""
    main = _place("SOURCE_JOB", given["source"])
    if given["output"]:
        main = Place(main.job, given["output"])
    places = {job.inputs[0].name: main}
    for wanted in job.inputs[1:]:
        said = given[f"input_{wanted.name}"]
        if said:
            places[wanted.name] = _place(f"--{wanted.name}", said)
        elif wanted.needed == "same job":
            places[wanted.name] = Place(main.job)
        elif wanted.needed == "yes":
            raise InputError(_missing(wanted))
    named = [name for name in job.one_of if name in places]
    if job.one_of and len(named) != 1:
        options = ", ".join(f"--{name}" for name in job.one_of)
        raise InputError(f"{options}: {'several are' if named else 'none is'} given; name the job of exactly one")
    return places


def _missing(wanted: Input) -> str:
    return f"--{wanted.name}: is missing; give the job that has the {wanted.plural}: {wanted.giver}"


def _place(what: str, text: str) -> Place:
    """Return the place that ``J12`` or ``J12.particles`` names."""
    job, _, output = text.strip().partition(".")
    return Place(_uid(what, "J", job), output or None)


def _uid(what: str, letter: str, text: str) -> str:
    """Return ``P3`` for ``P3``, ``p3`` and ``3``."""
    match = re.fullmatch(rf"{letter}?([1-9]\d*)", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise InputError(f"{what} {text}: is no number of that kind; give one such as {letter}12")
    return letter + match[1]


def _threads(text: str | None) -> int:
    if text is None:
        try:
            return len(os.sched_getaffinity(0))
        except AttributeError:
            return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--threads {text}: is no number of threads; give 1 or more")
    return int(text)
