"""The bait: picks with the whole map and with a part of it left out, on the micrographs and on noise like them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_pickbias.bias.bait import Bait, omega, omitted_part, returned, support
from napari_pickbias.bias.evidence import Frame
from napari_pickbias.bias.reconstruction import density_filter, reconstruct, symmetrised
from napari_pickbias.bias.volume_evidence import (
    Whole,
    back_projected,
    patches_at,
    pick_noise,
    treatment,
    volume_size,
)
from napari_pickbias.errors import InputError
from napari_pickbias.imaging.projection import resample_volume
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.bias import BiasResult
from napari_pickbias.jobs.bias_volume import Tools, make_tools
from napari_pickbias.jobs.pick_templates import TemplateInput
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.matching.noise_model import surrogate, template_sd
from napari_pickbias.matching.peaks import find_peaks
from napari_pickbias.matching.scores import score_map
from napari_pickbias.matching.views import symmetry_rotations
from napari_pickbias.records.micrographs import MicrographSet

KINDS = ("full", "baited", "noise_full", "noise_baited")


@dataclass(frozen=True)
class BaitResult:
    """What came back of a part that was left out of the templates.

    Attributes
    ----------
    bait : Bait
    picks : dict of int
        By ``full``, ``baited``, ``noise_full``, ``noise_baited``.
    share : float
        Of the map's mass that was left out.
    pixel_size : float
        Å, of the maps.
    maps : dict of ndarray, shape (n, n, n)
        Reconstructions of the same four, and ``omitted``, the density that was left out.
    """

    bait: Bait
    picks: dict[str, int]
    share: float
    pixel_size: float
    maps: dict[str, NDArray[np.float32]]


class _Sums(NamedTuple):
    raw: NDArray[np.float64]
    kernel: NDArray[np.float64]
    picks: int

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(self.raw + other.raw, self.kernel + other.kernel, self.picks + other.picks)


def bait_job(
    found: MicrographSet,
    templates: TemplateInput,
    result: BiasResult,
    *,
    mask: NDArray[np.floating[Any]] | None = None,
    threads: int = 1,
) -> Generator[Progress, None, BaitResult]:
    """Pick with the whole map and with a part of it left out; yields :class:`Progress`.

    Parameters
    ----------
    found : MicrographSet
    templates : TemplateInput
        A map.
    result : BiasResult
        Of its own picks.
    mask : ndarray, shape of the map, optional
        1 where density is left out; default: a ball at the periphery (and its symmetry mates) of 15 % of the mass.
    threads : int
        No result depends on it.

    Raises
    ------
    InputError
        When the templates are no map, the picks another program's, or the mask does not fit.
    """
    part = _omitted(templates, result, mask)
    baited = templates._replace(
        data=np.asarray(templates.data * (1 - part), np.float32), name=f"{templates.name} (baited)"
    )
    tools = make_tools(found, templates, result)
    # the same pixels, box and mask as the whole map's
    fixed = result.parameters.model_copy(update={"diameter": tools.plan.settings.diameter})
    other = make_tools(found, baited, _with_parameters(result, fixed))
    sums: dict[str, _Sums] = {}
    total = len(tools.used)
    yield Progress("bait", 0, total)
    frame = tools.frame(tools.used[0])[0]
    for done, number in enumerate(tools.used):
        for kind, whole in _one(tools, other, number, threads):
            own = _Sums(whole.raw.astype(np.float64), whole.kernel.sum(axis=0), int(whole.counts.sum()))
            sums[kind] = own if kind not in sums else sums[kind].plus(own)
        yield Progress("bait", done + 1, total)
    return _concluded(tools, frame, templates, part, sums)


def _omitted(
    templates: TemplateInput, result: BiasResult, mask: NDArray[np.floating[Any]] | None
) -> NDArray[np.float64]:
    if templates.kind != "map":
        raise InputError(f"--bait: {templates.name} holds class averages; give the map they came from as --map")
    if result.foreign:
        raise InputError("--bait: needs picks that the templates make; leave --picks and --picker out")
    if mask is None:
        return omitted_part(templates.data, symmetry_rotations(result.parameters.symmetry))
    if mask.shape != templates.data.shape:
        raise InputError(
            f"--bait: the mask has {' x '.join(map(str, mask.shape))} voxels, the map "
            f"{' x '.join(map(str, templates.data.shape))}; give a mask on the map's grid"
        )
    part = np.clip(np.asarray(mask, np.float64), 0, 1)
    mass = np.maximum(templates.data, 0)
    share = float((mass * part).sum() / mass.sum())
    if not 0.005 < share < 0.8:
        raise InputError(
            f"--bait: the mask leaves out {share:.1%} of the map's mass; give one that leaves out 0.5 % to 80 %"
        )
    return part


def _with_parameters(result: BiasResult, parameters: Any) -> BiasResult:
    return replace(result, parameters=parameters)


def _one(tools: Tools, other: Tools, number: int, threads: int) -> Generator[tuple[str, Whole], None, None]:
    """Back-project the picks of one micrograph and of noise like it, with the whole map's and the baited templates."""
    match = tools.result.candidates.matches[number]
    assert match is not None
    rng = np.random.default_rng([tools.result.parameters.seed, 6, number])
    frames = tools.frame(number)[0], other.frame(number)[0]
    box, size = frames[0].box, volume_size(frames[0])
    prepared, ratio = tools.prepared(number, box)
    shape = (prepared.image.shape[0], prepared.image.shape[1])
    noise = surrogate(match.noise, shape, rng)
    transfer = tools.transfer(number, box, size)
    own = tools.picks(number, ratio)
    for name, frame in zip(("full", "baited"), frames, strict=True):
        treated = treatment(match.noise, shape, frame, transfer)
        rotations = matrices_from_euler(frame.bank.euler_deg)
        picks = own
        if name == "baited":
            power = match.noise.power if match.noise.method == "auto" else match.noise.tile_power
            scores, best = score_map(
                prepared.image, frame.bank, threads, noise_sd=template_sd(frame.bank, power), normalise="none"
            )
            picks = find_peaks(scores, best, tools.result.threshold, frame.min_distance)
            picks = picks[prepared.inside[np.rint(picks["y"]).astype(int), np.rint(picks["x"]).astype(int)]]
        false = pick_noise(noise, prepared, match.noise, len(picks), frame, threads)
        for kind, image, table in ((name, prepared.image, picks), (f"noise_{name}", noise, false)):
            patches = patches_at(image, table, treated, frame)
            yield kind, back_projected(patches, rotations[patches.label], rng, treated)


def _concluded(
    tools: Tools,
    frame: Frame,
    templates: TemplateInput,
    part: NDArray[np.float64],
    sums: dict[str, _Sums],
) -> BaitResult:
    size = volume_size(frame)
    pixel = frame.box * frame.pixel_size / size
    whole, left_out = (
        resample_volume(np.asarray(volume, np.float32), templates.pixel_size_angstrom, size, pixel)
        for volume in (templates.data, templates.data * part)
    )
    inside = support(left_out)
    rest = support(whole) & ~inside
    rng = np.random.default_rng([tools.result.parameters.seed, 7])
    maps, over, beside = {}, {}, {}
    for kind in KINDS:
        density = density_filter(symmetrised(sums[kind].kernel, tools.group))
        groups = sums[kind].raw.reshape(-1, size, size, size)
        shares = np.stack([reconstruct(symmetrised(one, tools.group), density) for one in groups])
        maps[kind] = shares.sum(axis=0).astype(np.float32)
        over[kind], beside[kind] = shares[:, inside].mean(axis=1), shares[:, rest].mean(axis=1)
    mass = np.maximum(templates.data, 0)
    bait = Bait(
        omega(over["full"], over["baited"], rng),
        omega(over["noise_full"], over["noise_baited"], rng),
        returned(over["baited"], beside["baited"], rng),
        returned(over["noise_baited"], beside["noise_baited"], rng),
    )
    return BaitResult(
        bait,
        {kind: sums[kind].picks for kind in KINDS},
        float((mass * part).sum() / mass.sum()),
        pixel,
        {**maps, "omitted": left_out},
    )
