"""Options that commands share, and options made from a job's parameter model."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from napari_pickbias.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])


def run_options(command: Command) -> Command:
    """Add ``--out``, ``--threads``, ``--overwrite``, ``--resume`` and ``--quiet``."""
    options = [
        click.option("--out", required=True, metavar="DIR", help="Folder for the results; made when missing."),
        click.option(
            "--threads", type=click.IntRange(1), default=None, help="Threads; default: all cores this process may use."
        ),
        click.option("--overwrite", is_flag=True, help="Replace an earlier run in DIR."),
        click.option("--resume", is_flag=True, help="Go on with an unfinished run in DIR."),
        click.option("--quiet", is_flag=True, help="No progress bar and no closing lines."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def model_options(model: type[BaseModel], skip: Collection[str] = ()) -> Callable[[Command], Command]:
    """Add one option for each field of a parameter model: name, type, default and help come from the model."""

    def add(command: Command) -> Command:
        for name, field in reversed(list(model.model_fields.items())):
            if name not in skip:
                command = _option(name, field)(command)
        return command

    return add


def build(model: type[BaseModel], values: dict[str, Any]) -> Any:
    """Return the validated model; a value out of bounds becomes one line that names the option.

    Raises
    ------
    InputError
        Naming the first option at fault, its value and what is allowed.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "options"
        raise InputError(f"{option} {first.get('input')}: {first['msg'].lower()}") from error


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    kind, optional = _plain_type(field.annotation)
    default = None if field.default is PydanticUndefined else field.default
    text = (field.description or "").rstrip(".?") + "."
    if kind is bool:
        return click.option("--" + name.replace("_", "-"), name, is_flag=True, default=default, help=text)
    return click.option(
        "--" + name.replace("_", "-"),
        name,
        type=kind,
        default=default,
        required=field.is_required(),
        show_default=default is not None and not optional,
        help=text,
    )


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """Return click's type for a field, and whether it may be left out."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return _plain_type(inner[0])[0], True
    if get_origin(annotation) is Literal:
        return click.Choice([str(a) for a in get_args(annotation)]), False
    return annotation, False
