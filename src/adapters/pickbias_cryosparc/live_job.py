"""What a live job is: the groups that it reads, its parameters, and the call that it answers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from napari_pickbias.jobs.progress import Progress
    from pickbias_cryosparc.live_external import ExternalJob

Datatype = Literal["exposure", "particle", "template", "volume", "mask"]


@dataclass(frozen=True)
class Input:
    """A group of CryoSPARC that a job reads.

    Attributes
    ----------
    name : str
        Of the external job's input; ``--name`` on the command line unless it is the main one.
    type : str
        CryoSPARC's type.
    plural : str
        What its rows are.
    slots : tuple of str
        What is read: ``"blob"``, ``"?ctf"`` (may be missing), ``"map:blob"`` where the slot's type has another name.
    fields : tuple of (str, str)
        Fields that are read, with their types.
    giver : str
        Which job has such an output.
    preferred : tuple of str
        Names that are taken where a job has several outputs of the type.
    needed : {"main", "same job", "yes", "no"}
        ``main``: of SOURCE_JOB. ``same job``: of SOURCE_JOB too unless another one is named. ``yes``: must be named.
    help : str
        Of the option.
    """

    name: str
    type: Datatype
    plural: str
    slots: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    giver: str
    preferred: tuple[str, ...] = ()
    needed: Literal["main", "same job", "yes", "no"] = "main"
    help: str = ""

    @property
    def required_slots(self) -> list[str]:
        """Names of the slots that must be there."""
        return [slot.split(":")[0] for slot in self.slots if not slot.startswith("?")]


@dataclass(frozen=True)
class Place:
    """A job, and which of its outputs is meant; None where it has but one."""

    job: str
    output: str | None = None


@dataclass(frozen=True)
class Call:
    """What the command line asks for.

    Attributes
    ----------
    url : str or None
    project, workspace : str
        ``P3``, ``W1``.
    places : dict
        Input to the job that it is taken from; those that were not asked for are missing.
    resume : str or None
        External job in whose folder an unfinished run is.
    threads : int
    """

    url: str | None
    project: str
    workspace: str
    places: dict[str, Place]
    resume: str | None
    threads: int
    title: str
    quiet: bool

    @property
    def source(self) -> str:
        """SOURCE_JOB."""
        return next(iter(self.places.values())).job


@dataclass(frozen=True)
class Job:
    """A job as the frame drives it.

    Attributes
    ----------
    title : str
        Default title of the external job: a noun phrase.
    help : str
    inputs : tuple of Input
        The main one first.
    parameters : type of BaseModel
    run : callable
        Generator function of (external job, call, parameters); yields progress, returns the closing lines.
    one_of : tuple of str
        Inputs of which exactly one must be named.
    """

    title: str
    help: str
    inputs: tuple[Input, ...]
    parameters: type[BaseModel]
    run: Callable[[ExternalJob, Call, Any], Generator[Progress, None, list[str]]] = field(repr=False)
    one_of: tuple[str, ...] = ()


def slot_spec(slot: str, release: int) -> str | dict[str, Any]:
    """Return a slot as the client of that major release takes it.

    A name alone stands for the slot type of the same name.
    """
    name, _, dtype = slot.removeprefix("?").partition(":")
    if not dtype:
        return slot
    return {"name" if release >= 5 else "prefix": name, "dtype": dtype, "required": not slot.startswith("?")}
