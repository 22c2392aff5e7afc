"""The picking job: templates, coordinates, thresholds, resumption, and what is refused or warned of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.phantoms import blob_projections, blob_volume, phantom
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.pick import PickResult, basis_line, decide, pick_job
from napari_pickbias.jobs.pick_candidates import candidate_arrays, candidates_of_arrays
from napari_pickbias.jobs.pick_match import make_plan
from napari_pickbias.jobs.pick_parameters import PickParameters
from napari_pickbias.jobs.pick_templates import TemplateInput, bank_for, make_views, particle_diameter
from napari_pickbias.jobs.progress import Progress
from napari_pickbias.jobs.simulate_micrographs import simulate_micrographs
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters
from napari_pickbias.records import CtfParameters, Micrographs
from napari_pickbias.records.micrographs import MicrographSet

PIXEL, RADIUS = 10.0, 100.0
BLOBS = phantom(RADIUS / PIXEL, elongation=1.6)
MAP = TemplateInput("map", blob_volume(BLOBS, 32), PIXEL, "--map m.mrc")
PARAMETERS: dict[str, Any] = {"angular_step": 30, "lowpass": 40, "contrast": "black"}


class Memory:
    """Checkpoints in memory, with a record of what was saved."""

    def __init__(self) -> None:
        self.pieces: dict[str, Mapping[str, NDArray[Any]]] = {}
        self.saved: list[str] = []

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        found = self.pieces.get(name)
        return None if found is None else dict(found)

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.pieces[name] = dict(arrays)
        self.saved.append(name)


def pick(found: MicrographSet, templates: TemplateInput = MAP, memory: Memory | None = None, **more: Any) -> PickResult:
    job = pick_job(found, templates, PickParameters(**{**PARAMETERS, **more}), checkpoints=memory)
    while True:
        try:
            assert isinstance(next(job), Progress)
        except StopIteration as end:
            return end.value


def micrograph_set(paths: list[Path], pixel_size: float = PIXEL) -> MicrographSet:
    names = tuple(path.name for path in paths)
    return MicrographSet(Micrographs(tuple(paths), np.full(len(paths), pixel_size), None, names), paths[0].parent)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[MicrographSet, list[np.ndarray]]:
    """Three micrographs of 14 particles each, and where these are."""
    folder = tmp_path_factory.mktemp("pick")
    truths: list[np.ndarray] = []

    def write(number: int, image: Any, truth: Any, optics: Any) -> None:
        mrcfile.write(folder / f"m{number}.mrc", image, voxel_size=PIXEL)
        truths.append(truth[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy())

    parameters = SimulateMicrographsParameters(
        count=3, size=400, pixel_size=PIXEL, per_micrograph=14, radius=RADIUS, elongation=1.6, snr=0.1, ctf=False
    )
    for _ in simulate_micrographs(parameters, write=write):
        pass
    return micrograph_set(sorted(folder.iterdir())), truths


@pytest.fixture(scope="module")
def matched(simulated: tuple[MicrographSet, list[np.ndarray]]) -> tuple[PickResult, Memory]:
    memory = Memory()
    return pick(simulated[0], memory=memory, threshold=5.0), memory


# Templates ------------------------------------------------------------------------------------------------------------


def test_views_of_a_map_are_its_projections() -> None:
    parameters = PickParameters(angular_step=60, lowpass=20)
    views = make_views(MAP, parameters, PIXEL, 200.0)
    exact = blob_projections(BLOBS, matrices_from_euler(views.euler_deg), views.images.shape[-1])
    for image, wanted in zip(views.images[::7], exact[::7], strict=True):
        assert np.corrcoef(image.ravel(), wanted.ravel())[0, 1] > 0.999
    bank = bank_for(views, None, "none")
    np.testing.assert_allclose((bank.images.astype(float) ** 2).sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(bank.images.sum(axis=(1, 2)), 0, atol=1e-4)


@pytest.mark.parametrize("new_pixel", [10.0, 13.7])
def test_class_averages_are_turned_and_resampled_as_projections_are(new_pixel: float) -> None:
    averages = blob_projections(BLOBS, matrices_from_euler(np.zeros((1, 3))), 41).astype(np.float32)
    templates = TemplateInput("images", averages, PIXEL, "t")
    views = make_views(templates, PickParameters(angular_step=40, lowpass=20), new_pixel, 200.0)
    finer = blob_projections(
        phantom(RADIUS / new_pixel, elongation=1.6), matrices_from_euler(views.euler_deg), views.images.shape[-1]
    )
    assert len(views.images) == 9
    assert (views.euler_deg[:, :2] == 0).all()
    for image, wanted in zip(views.images, finer, strict=True):
        assert np.corrcoef(image.ravel(), wanted.ravel())[0, 1] > 0.995
    inverted = make_views(templates._replace(data=-averages), PickParameters(angular_step=40, lowpass=20), 10.0, 200.0)
    assert inverted.notes == ("t: 1 of 1 templates are dark in the middle and were inverted",)
    straight = make_views(templates, PickParameters(angular_step=40, lowpass=20), 10.0, 200.0)
    np.testing.assert_allclose(inverted.images, straight.images, atol=1e-4 * straight.images.max())


def test_the_ctf_acts_before_the_mask() -> None:
    views = make_views(MAP, PickParameters(angular_step=90, lowpass=20), PIXEL, 200.0)
    one = {name: np.array([value]) for name, value in ctf_values().items()}
    optics = CtfParameters(**one)
    canvas, box = views.images.shape[-1], views.mask.shape[0]
    names = {"voltage_kv", "spherical_aberration_mm", "amplitude_contrast", "phase_shift_deg"}
    transfer = ctf(
        (canvas, canvas),
        PIXEL,
        **{name: value for name, value in ctf_values().items() if name in names or name.startswith("defocus")},
    )[0]
    cut = slice((canvas - box) // 2, (canvas - box) // 2 + box)
    for mode, factor in (("multiply", transfer), ("flip", np.sign(transfer))):
        bank = bank_for(views, optics, mode)  # type: ignore[arg-type]
        seen = np.fft.irfft2(np.fft.rfft2(views.images[3]) * factor, s=(canvas, canvas))[cut, cut]
        weights = views.mask.astype(float)
        wanted = weights * (seen - (seen * weights).sum() / weights.sum())
        np.testing.assert_allclose(bank.images[3], wanted / np.sqrt((wanted**2).sum()), atol=1e-5)


def ctf_values() -> dict[str, float]:
    return {
        "defocus_u_angstrom": 2.1e4,
        "defocus_v_angstrom": 2.0e4,
        "defocus_angle_deg": 30.0,
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.1,
        "phase_shift_deg": 0.0,
    }


def test_the_diameter_is_measured() -> None:
    ball = np.zeros((40, 40, 40), np.float32)
    z, y, x = np.mgrid[:40, :40, :40] - 20
    ball[x**2 + y**2 + z**2 <= 100] = 1
    assert particle_diameter(TemplateInput("map", ball, 3.0, "m")) == pytest.approx(60, rel=0.05)
    assert particle_diameter(TemplateInput("images", ball.sum(axis=0)[None], 3.0, "m")) == pytest.approx(54, rel=0.08)


# Picks ----------------------------------------------------------------------------------------------------------------


def test_picks_lie_on_particles(
    simulated: tuple[MicrographSet, list[np.ndarray]], matched: tuple[PickResult, Memory]
) -> None:
    found, truths = simulated
    result, _ = matched
    assert result.threshold == 5.0
    hits = 0
    for name, truth in zip(found.micrographs.names, truths, strict=True):
        columns = result.picks[name]
        assert (np.diff(columns["score"]) <= 0).all()
        assert (columns["score"] >= 5).all()
        assert set(np.unique(columns["template"])) <= set(range(1, result.candidates.facts["views"] + 1))
        distance, _ = cKDTree(np.column_stack([columns["x_px"], columns["y_px"]])).query(truth)
        hits += int((distance < 4).sum())
    # 26 to 35 of 42, and 14 to 32 others, over five seeds.
    assert hits >= 24
    assert result.count - hits <= 36
    assert result.fdr is not None
    assert result.fdr[1] <= result.fdr[0] <= result.fdr[2]
    assert result.expected_false[1] <= result.expected_false[0] <= result.expected_false[2]


@pytest.mark.parametrize("rule", ["greedy", "paper"])
def test_other_rules_of_peaks_keep_their_distance(
    simulated: tuple[MicrographSet, list[np.ndarray]], matched: tuple[PickResult, Memory], rule: str
) -> None:
    found, _ = simulated
    one = micrograph_set([found.micrographs.paths[0]])
    result = pick(one, threshold=5.0, peaks=rule)
    columns = result.picks["m0.mrc"]
    places = np.column_stack([columns["x_px"], columns["y_px"]])
    steps = np.abs(places[:, None] - places[None])[np.triu_indices(len(places), 1)]
    least = result.candidates.min_distance_angstrom / PIXEL
    apart = np.linalg.norm(steps, axis=1) if rule == "greedy" else steps.max(axis=1)
    # sub-pixel places move by half a pixel, boxes have a whole number of pixels of the search
    assert apart.min() >= least - 3
    # the highest score is a peak whatever the rule
    assert columns["score"][0] == matched[0].picks["m0.mrc"]["score"][0]


def test_thresholds_are_drawn_again_from_saved_candidates(matched: tuple[PickResult, Memory]) -> None:
    result, _ = matched
    again = candidates_of_arrays(candidate_arrays(result.candidates))
    same = decide(again, PickParameters(**{**PARAMETERS, "threshold": 5.0}))
    assert same.fdr == result.fdr
    for name, columns in result.picks.items():
        for key, values in columns.items():
            np.testing.assert_array_equal(same.picks[name][key], values)
    higher = decide(again, PickParameters(threshold=6.0))
    lower = decide(again, PickParameters(threshold=4.0))
    assert lower.count > result.count > higher.count
    for rate in (0.05, 0.3):
        chosen = decide(again, PickParameters(fdr=rate))
        assert chosen.fdr is not None
        assert chosen.fdr[0] <= rate + 1e-9
    assert decide(again, PickParameters()).threshold == decide(again, PickParameters(fdr=0.05)).threshold


def test_a_resumed_run_gives_the_same(
    simulated: tuple[MicrographSet, list[np.ndarray]], matched: tuple[PickResult, Memory]
) -> None:
    result, memory = matched
    cut = Memory()
    cut.pieces = {name: arrays for name, arrays in memory.pieces.items() if name != "micrograph_000001"}
    again = pick(simulated[0], memory=cut, threshold=5.0)
    assert cut.saved == ["micrograph_000001"]
    for name, columns in result.picks.items():
        np.testing.assert_array_equal(again.picks[name]["score"], columns["score"])
        np.testing.assert_array_equal(again.picks[name]["p_value"], columns["p_value"])
    assert again.fdr == result.fdr


def test_finer_micrographs_are_searched_coarsely_and_picked_finely(
    simulated: tuple[MicrographSet, list[np.ndarray]], tmp_path: Path, matched: tuple[PickResult, Memory]
) -> None:
    """Interpolated twofold and with a border of streaks, a micrograph has its picks at twice the places."""
    image = simulated[0].micrographs.read(0)
    fine = np.fft.irfft2(np.pad(np.fft.rfft2(image), ((0, 0), (0, 200))), s=(400, 800)) * 2
    fine = np.fft.irfft2(np.pad(np.fft.rfft2(fine, axes=(1, 0)), ((0, 200), (0, 0))), s=(800, 800), axes=(1, 0)) * 2
    wide = np.pad(fine.astype(np.float32), 40, mode="edge")
    mrcfile.write(tmp_path / "fine.mrc", wide, voxel_size=PIXEL / 2)
    result = pick(micrograph_set([tmp_path / "fine.mrc"], PIXEL / 2), threshold=5.0, border=200)
    found, wanted = result.picks["fine.mrc"], matched[0].picks["m0.mrc"]
    strong = wanted["score"] >= 6.0
    places = 2 * np.column_stack([wanted["x_px"], wanted["y_px"]])[strong] + 40
    distance, _ = cKDTree(np.column_stack([found["x_px"], found["y_px"]])).query(places)
    assert strong.sum() >= 3
    assert np.median(distance) < 2


# Refusals and warnings ------------------------------------------------------------------------------------------------


def broken(folder: Path, simulated: MicrographSet, **images: np.ndarray) -> MicrographSet:
    paths = list(simulated.micrographs.paths)
    for name, image in images.items():
        paths.append(folder / f"{name}.mrc")
        mrcfile.write(paths[-1], image.astype(np.float32), voxel_size=PIXEL, overwrite=True)
    return micrograph_set(paths)


@pytest.mark.filterwarnings("ignore:Data array contains NaN")
def test_bad_micrographs_are_left_out(
    simulated: tuple[MicrographSet, list[np.ndarray]], matched: tuple[PickResult, Memory], tmp_path: Path
) -> None:
    nan = np.zeros((400, 400))
    nan[7, 7] = np.nan
    found = broken(tmp_path, simulated[0], flat=np.ones((400, 400)), nan=nan)
    memory = Memory()
    memory.pieces = dict(matched[1].pieces)
    result = pick(found, memory=memory, threshold=5.0)
    assert result.count == matched[0].count
    assert "left out flat.mrc: is constant; leave out that micrograph" in result.warnings
    assert "left out nan.mrc: holds NaN or infinite pixels; mend or leave out that micrograph" in result.warnings
    only = micrograph_set([found.micrographs.paths[3]])
    with pytest.raises(InputError) as fault:
        pick(only)
    assert str(fault.value) == "flat.mrc: is constant; leave out that micrograph"


@pytest.mark.parametrize(
    ("pixel_size", "more", "line"),
    [
        (
            1.5,
            {},
            "m0.mrc: is 400 × 400 px, 600 Å at 1.5 Å a pixel; the search needs four particle diameters (194.2 Å); "
            "check --pixel-size, --diameter and the templates' pixel size",
        ),
        (
            177.0,
            {},
            "--map m.mrc: the particle (194.2 Å) is 1.1 px wide at 177 Å a pixel; check --pixel-size, "
            "--templates-pixel-size and --diameter",
        ),
        (
            10.0,
            {"border": 1700},
            "m0.mrc: is 400 × 400 px less a border of 170 px, 600 Å at 10 Å a pixel; the search needs four particle "
            "diameters (194.2 Å); check --pixel-size, --diameter and the templates' pixel size",
        ),
        (10.0, {"highpass": 30}, "--lowpass 40 --highpass 30: nothing is left between them; swap them"),
        (
            10.0,
            {"ctf": "flip"},
            "--ctf flip: the micrographs' CTF is not known; give a STAR file with it, or --ctf none",
        ),
        (10.0, {"threshold": 4, "fdr": 0.1}, "--threshold 4 --fdr 0.1: each sets the threshold; give one of them"),
        (10.0, {"symmetry": "X"}, "--symmetry X: is not known; give C1, C2, ..., D2, ..., T, O, I1 or I2"),
    ],
)
def test_contradictions_are_refused(
    simulated: tuple[MicrographSet, list[np.ndarray]], pixel_size: float, more: dict[str, Any], line: str
) -> None:
    found = micrograph_set(list(simulated[0].micrographs.paths), pixel_size)
    with pytest.raises(InputError) as fault:
        pick(found, **more)
    assert str(fault.value) == line


def test_a_doubtful_pixel_size_is_warned_of(simulated: tuple[MicrographSet, list[np.ndarray]], tmp_path: Path) -> None:
    paths = list(simulated[0].micrographs.paths)
    parameters = PickParameters(angular_step=90, lowpass=40)
    plan = make_plan(micrograph_set(paths, 12.5), MAP, parameters)
    assert plan.notes == ("m0.mrc: its header says 10 Å a pixel, but 12.5 Å is used; check the pixel size",)
    assert make_plan(micrograph_set(paths), MAP, parameters).notes == ()
    mrcfile.write(tmp_path / "unset.mrc", np.eye(400, dtype=np.float32), voxel_size=1.0)
    ball = TemplateInput("map", blob_volume(phantom(30), 80), 1.0, "--map b.mrc")
    assert make_plan(micrograph_set([tmp_path / "unset.mrc"], 1.0), ball, parameters).notes == (
        "the micrographs' headers say 1 Å a pixel, as headers do that were never set; check --pixel-size",
    )


def test_no_pick_explains_itself(matched: tuple[PickResult, Memory]) -> None:
    candidates = matched[0].candidates
    top = max(float(match.peaks["score"].max()) for match in candidates.used)
    none = decide(candidates, PickParameters(threshold=30))
    assert none.count == 0
    start = f"no pick reaches 30: the highest score is {top:.2f}, and noise alone reaches "
    assert none.warnings[-1].startswith(start)
    assert none.warnings[-1].endswith(
        "; check --pixel-size, --contrast and --diameter, and whether these templates are on these micrographs"
    )
    inverted = replace(candidates, facts={**candidates.facts, "measured_contrast": "white"})
    assert (
        decide(inverted, PickParameters(threshold=30))
        .warnings[-1]
        .endswith("; white particles match the templates better than black ones: try --contrast white")
    )


def test_a_rotation_basis_that_saves_nothing_says_so(matched: tuple[PickResult, Memory]) -> None:
    """The search was made without one; so it is with one where no view gains by it."""
    candidates = matched[0].candidates
    assert basis_line(candidates, PickParameters()) is None
    assert basis_line(candidates, PickParameters(rotation_basis=0.01)) == (
        "--rotation-basis saves nothing with these templates: each was matched by itself"
    )


def test_on_noise_no_threshold_keeps_a_rate(matched: tuple[PickResult, Memory]) -> None:
    candidates = matched[0].candidates
    noise = tuple(
        replace(match, peaks=match.null_peaks[0], null_peaks=match.null_peaks[1:]) for match in candidates.used
    )
    blank = replace(candidates, matches=noise)
    with pytest.raises(InputError, match=r"^--fdr 0.05: (no score keeps it|cannot be kept)"):
        decide(blank, PickParameters())
    few = decide(blank, PickParameters(threshold=float(max(match.peaks["score"][0] for match in noise))))
    assert few.count == 1
    assert few.fdr is None or any("of the picks may be false" in text for text in few.warnings)


def test_absurd_scores_are_warned_of(matched: tuple[PickResult, Memory]) -> None:
    candidates = matched[0].candidates
    first = candidates.used[0]
    peaks = first.peaks.copy()
    peaks["score"][0] = 77
    loud = replace(candidates, matches=(replace(first, peaks=peaks), *candidates.matches[1:]))
    assert (
        "the highest score is 77 standard deviations of the noise, which no particle reaches: gold, ice or hot pixels "
        "do; look at the picks and clean the micrographs"
    ) in decide(loud, PickParameters(threshold=5)).warnings


def test_where_the_noise_model_fails_no_fdr_is_given(
    matched: tuple[PickResult, Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_pickbias.jobs.pick as module

    real = module.calibrate

    def failed(matches: Any, rng: Any) -> Any:
        found = real(matches, rng)
        return replace(found, fdr=None, failed="the noise is not known.")

    monkeypatch.setattr(module, "calibrate", failed)
    result = decide(matched[0].candidates, PickParameters(threshold=5))
    assert result.fdr is None
    assert "no FDR is given: the noise is not known." in result.warnings
    with pytest.raises(InputError) as fault:
        decide(matched[0].candidates, PickParameters(fdr=0.1))
    assert str(fault.value) == (
        "--fdr 0.1: cannot be kept, because no FDR can be given: the noise is not known; check --pixel-size, "
        "--contrast and --diameter, and whether these templates are on these micrographs, or give --threshold"
    )
    facts = {**matched[0].candidates.facts, "measured_contrast": "white", "contrast": "black"}
    with pytest.raises(
        InputError, match=r"white particles match .* better than black ones: try --contrast white, or give"
    ):
        decide(replace(matched[0].candidates, facts=facts), PickParameters(fdr=0.1))
