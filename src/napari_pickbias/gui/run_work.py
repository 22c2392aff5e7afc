"""What the docks of the jobs do off the main thread: the run, then what shows it. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from napari_pickbias.gui.map_layers import map_layers
from napari_pickbias.gui.outlier_work import Earlier
from napari_pickbias.gui.softmodes_layers import SoftShown, frames_of, read_soft, sphere_layers
from napari_pickbias.gui.threshold import PickView, pick_view
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.softmodes_views import sphere_of
from napari_pickbias.records import open_particles, read_header
from napari_pickbias.records.micrographs import open_micrographs
from napari_pickbias.report.document import Document
from napari_pickbias.report.panels import Panel

if TYPE_CHECKING:
    from napari_pickbias.jobs.pick_preview import TemplatePreview

LayerData = tuple[Any, dict[str, Any], str]


@dataclass(frozen=True)
class RunOrder:
    """All that a run needs, copied from the dock before it starts."""

    inputs: Mapping[str, str]
    parameters: Any
    out: Path
    earlier: Earlier
    threads: int

    @property
    def again(self) -> dict[str, bool]:
        """What to do with an earlier run in the folder."""
        return {"overwrite": self.earlier == "replace", "resume": self.earlier == "resume"}


@dataclass(frozen=True)
class Finished:
    """A finished run and what shows it.

    Attributes
    ----------
    files : dict
    headline : str
        The report's; empty where the run had been finished before.
    warnings : list of str
    panels : list of Panel
        Figures of the report.
    layers : list of layer data
    extra : object
        What the dock of the job makes of it: frames of an animation, picks with their null.
    """

    order: RunOrder
    files: dict[str, Path]
    headline: str
    warnings: list[str]
    panels: list[Panel]
    layers: list[LayerData]
    extra: Any = field(default=None)


Steps = Callable[[RunOrder], Generator[Progress, None, Finished]]


def softmodes_steps(order: RunOrder) -> Generator[Progress, None, Finished]:
    """Find soft modes; see :func:`napari_pickbias.runs.softmodes.run_softmodes`."""
    from napari_pickbias.report.softmodes import softmodes_document
    from napari_pickbias.runs.softmodes import run_softmodes

    yield Progress("read", 0, 1)
    map_path = order.inputs["map"]
    with threadpool_limits(limits=order.threads):
        run = yield from run_softmodes(
            map_path,
            open_particles(order.inputs["particles"]),
            order.parameters,
            order.out,
            mask_path=order.inputs.get("mask") or None,
            **order.again,
        )
    yield Progress("show", 0, 1)
    document = None
    if run.result is not None:
        document = softmodes_document(run.result, run.summary)
        # The surface stands where the map's own layers stand: a binned voxel's centre lies where the grid says.
        origin = tuple(reversed(read_header(Path(map_path)).origin_angstrom))
        extent = run.result.box_px * run.result.voxel_size_angstrom
        shown = SoftShown(frames_of(run.result, origin), sphere_layers(sphere_of(run.result), extent, origin))
    else:
        shown, _ = read_soft(order.out)
    trust = order.out / "uncertainty.mrc"
    layers = [*map_layers(Path(map_path)), *(map_layers(trust) if trust.exists() else [])]
    for _, options, _ in layers:
        options["visible"] = False
    return _finished(order, run, document, layers, shown)


def pick_steps(order: RunOrder) -> Generator[Progress, None, Finished]:
    """Pick particles; see :func:`napari_pickbias.runs.pick.run_pick`."""
    from napari_pickbias.jobs.pick import decide
    from napari_pickbias.report.pick import pick_document
    from napari_pickbias.runs.pick import CANDIDATES, open_template_input, read_candidates, run_pick

    yield Progress("read", 0, 1)
    found = open_micrographs(order.inputs["micrographs"], order.parameters.pixel_size)
    template, wanted = _templates(order, open_template_input)
    run = yield from run_pick(
        found, wanted, order.parameters, order.out, template_path=template, threads=order.threads, **order.again
    )
    yield Progress("show", 0, 1)
    document = None if run.result is None else pick_document(run.result, (), run.summary)
    view: PickView | None = None
    if run.result is not None:
        view = pick_view(run.result, found.micrographs)
    elif (order.out / CANDIDATES).exists():
        view = pick_view(decide(read_candidates(order.out / CANDIDATES), order.parameters), found.micrographs)
    return _finished(order, run, document, [], view)


def bias_steps(order: RunOrder) -> Generator[Progress, None, Finished]:
    """Diagnose the bias of picks; see :func:`napari_pickbias.runs.bias.run_bias`."""
    from napari_pickbias.gui.bias_work import show_bias
    from napari_pickbias.report.bias import bias_document
    from napari_pickbias.runs.bias import run_bias
    from napari_pickbias.runs.pick import open_template_input

    yield Progress("read", 0, 1)
    template, wanted = _templates(order, open_template_input)
    found = open_micrographs(order.inputs["micrographs"], order.parameters.pixel_size)
    run = yield from run_bias(
        found,
        wanted,
        order.parameters,
        order.out,
        template_path=template,
        picks=order.inputs.get("picks") or None,
        threads=order.threads,
        **order.again,
    )
    yield Progress("show", 0, 1)
    document = None if run.result is None else bias_document(run.result, run.summary)
    shown = show_bias(order.out, order.parameters.seed, bool(order.inputs.get("picks")), found.micrographs)
    return _finished(order, run, document, [], shown)


def pickfree_steps(order: RunOrder) -> Generator[Progress, None, Finished]:
    """Reconstruct without picking; see :func:`napari_pickbias.runs.pickfree.run_pickfree`."""
    from napari_pickbias.report.pickfree import pickfree_document
    from napari_pickbias.runs.pickfree import run_pickfree
    from napari_pickbias.runs.pickfree_live import read_convergence

    run = yield from run_pickfree(
        order.inputs["micrographs"],
        order.inputs["map"],
        order.parameters,
        order.out,
        threads=order.threads,
        **order.again,
    )
    yield Progress("show", 0, 1)
    document = None if run.result is None else pickfree_document(run.result, run.summary)
    convergence = read_convergence(order.out)
    return _finished(order, run, document, start_and_map(order.out), convergence)


def start_and_map(folder: Path) -> list[LayerData]:
    """Return start and map of a reconstruction, side by side."""
    layers = [layer for name in ("start", "map") if (p := folder / f"{name}.mrc").exists() for layer in map_layers(p)]
    for data, options, _ in layers:
        options["translate"] = (0.0,) * data.ndim
    if len(layers) == 2:
        data, options, _ = layers[1]
        options["translate"] = (0.0, 0.0, 1.2 * data.shape[-1] * options["scale"][-1])
        options["contrast_limits"] = layers[0][1]["contrast_limits"]  # a map that decayed must look so
    return layers


def preview_steps(order: RunOrder) -> Generator[Progress, None, TemplatePreview]:
    """Make the templates, to look at; nothing is matched and nothing is written."""
    from napari_pickbias.jobs.pick_preview import preview_job
    from napari_pickbias.runs.pick import open_template_input

    found = open_micrographs(order.inputs["micrographs"], order.parameters.pixel_size)
    _, wanted = _templates(order, open_template_input)
    return (yield from preview_job(found, wanted, order.parameters))


def _templates(order: RunOrder, read: Callable[..., Any]) -> tuple[Path, Any]:
    """Return what is looked for: a map, or class averages, whichever the file holds."""
    path = Path(order.inputs["templates"])
    pixel_size = order.parameters.templates_pixel_size
    is_map = path.suffix.lower() in (".mrc", ".map", ".gz", ".bz2") and read_header(path).kind == "volume"
    return path, read(path if is_map else None, None if is_map else path, pixel_size)


def _finished(
    order: RunOrder, run: Any, document: Document | None, layers: list[LayerData], extra: Any = None
) -> Finished:
    results = run.summary.get("results", {}) if run.summary else {}
    return Finished(
        order=order,
        files=dict(run.files),
        headline="" if document is None else document.headline,
        warnings=list(results.get("warnings") or []),
        panels=[] if document is None else [panel for section in document.sections for panel in section.panels],
        layers=layers,
        extra=extra,
    )
