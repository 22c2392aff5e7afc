"""Simulated micrographs: truth, optics, noise and arrangement are what the parameters say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from napari_pickbias.errors import InputError
from napari_pickbias.imaging.ctf import ctf
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.jobs.simulate_micrographs import noise_like, prepare, simulate_micrographs
from napari_pickbias.jobs.simulate_micrographs_parameters import SimulateMicrographsParameters, SimulateNoiseParameters

SMALL: dict[str, Any] = {"count": 2, "size": 256, "pixel_size": 8.0, "per_micrograph": 12, "ctf": False}


def make(**more: Any) -> tuple[list[np.ndarray], list[pd.DataFrame], dict[str, Any], list[dict[str, float]]]:
    images: list[np.ndarray] = []
    truths: list[pd.DataFrame] = []
    optics: list[dict[str, float]] = []

    def write(number: int, image: np.ndarray | None, truth: pd.DataFrame, columns: dict[str, float]) -> None:
        assert number == len(truths)
        assert image is not None
        images.append(image)
        truths.append(truth)
        optics.append(columns)

    job = simulate_micrographs(SimulateMicrographsParameters(**{**SMALL, **more}), write=write)
    while True:
        try:
            next(job)
        except StopIteration as end:
            return images, truths, end.value, optics


@pytest.mark.parametrize("with_ctf", [False, True])
def test_particles_lie_where_the_truth_says(with_ctf: bool) -> None:
    images, truths, summary, optics = make(snr=1e6, ctf=with_ctf, contrast="white", per_micrograph=6)
    assert summary["particles"] == 12
    parameters = SimulateMicrographsParameters(**{**SMALL, "snr": 1e6, "ctf": with_ctf, "count": 2})
    setting = prepare(parameters, None, None, None)
    size = 128  # wide enough for what the CTF spreads
    pad = (size - setting.volume.size) // 2
    for image, truth, columns in zip(images, truths, optics, strict=True):
        row = truth.iloc[0]
        place = row[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy(dtype=float)
        angles = row[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(dtype=float)[None]
        whole = np.rint(place).astype(int)
        clean = project(setting.volume, matrices_from_euler(angles), shifts_px=(place - whole)[None])[0]
        expected = np.pad(clean, pad)
        if with_ctf:
            transfer = ctf(
                (size, size),
                8.0,
                defocus_u_angstrom=columns["rlnDefocusU"],
                defocus_v_angstrom=columns["rlnDefocusV"],
                defocus_angle_deg=columns["rlnDefocusAngle"],
                voltage_kv=300.0,
                spherical_aberration_mm=2.7,
                amplitude_contrast=0.1,
            )[0]
            expected = np.fft.irfft2(np.fft.rfft2(expected) * transfer, s=(size, size))
        half = 8  # the middle of the particle: no neighbour reaches there without a CTF
        x, y = whole
        found = image[y - half : y + half, x - half : x + half]
        wanted = expected[size // 2 - half : size // 2 + half, size // 2 - half : size // 2 + half]
        # The CTF carries a little of the neighbours here: 0.97 and more over ten seeds.
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > (0.95 if with_ctf else 0.9999)


def test_noise_contrast_and_signal_to_noise() -> None:
    dark, truths, _, _ = make(snr=0.5, per_micrograph=3)
    bright, _, _, _ = make(snr=0.5, per_micrograph=3, contrast="white")
    np.testing.assert_array_equal(dark[0], -bright[0])
    empty, truth, summary, _ = make(per_micrograph=0)
    assert len(truth[0]) == 0
    assert summary["particles"] == 0
    assert empty[0].std() == pytest.approx(1, abs=0.02)
    inside = []
    noise_free, truths, _, _ = make(snr=1e8, per_micrograph=8, count=4, contrast="white")
    y, x = np.mgrid[:256, :256]
    for image, truth in zip(noise_free, truths, strict=True):
        for _, row in truth.iterrows():
            disc = np.hypot(y - row["rlnCoordinateY"], x - row["rlnCoordinateX"]) <= 10
            inside.append(image[disc].var())
    # Of 32 views against the 256 that set the scale; whole pixels: within 7 % over ten seeds.
    assert np.mean(inside) / 1e8 == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize(("arrangement", "least", "most"), [("separated", 22, 400), ("touching", 18, 21.1)])
def test_distances_of_particles(arrangement: str, least: float, most: float) -> None:
    _, truths, _, _ = make(arrangement=arrangement, per_micrograph=40, snr=0.1)
    for truth in truths:
        places = truth[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()
        nearest = cKDTree(places).query(places, k=2)[0][:, 1]
        assert nearest.min() >= least
        assert np.quantile(nearest, 0.3) <= most
        assert places.min() >= 10
        assert places.max() <= 245


def test_ice_and_carbon_keep_particles_away() -> None:
    images, truths, _, _ = make(ice=3, carbon=1.0, per_micrograph=10, count=3, snr=1e-6)
    for image, truth in zip(images, truths, strict=True):
        assert image.min() < -6  # ice is dark
        for _, row in truth.iterrows():
            x, y = round(row["rlnCoordinateX"]), round(row["rlnCoordinateY"])
            patch = image[y - 6 : y + 7, x - 6 : x + 7]
            assert patch.mean() > -0.5


def test_a_density_out_of_reach_stops_in_one_line() -> None:
    with pytest.raises(InputError) as fault:
        make(per_micrograph=400)
    text = str(fault.value)
    assert text.startswith("--per-micrograph 400: only ")
    assert text.endswith(
        " separated particles of 160 Å fit into 256 × 256 px of 8 Å; give fewer, a larger --size, or --arrangement "
        "touching"
    )
    with pytest.raises(InputError) as fault:
        make(per_micrograph=400, arrangement="touching")
    assert str(fault.value).endswith("give fewer, a larger --size")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 64, "radius": 300.0}, "--size 64: the particle (600 Å, 75 px) does not fit; give a larger --size"),
        ({"noise": "like"}, "--noise like: no noise spectrum was handed in; "),
        ({"map": "x.mrc"}, "--map x.mrc: no volume was handed in; give a readable map, or phantom"),
        ({"defocus_min": 3e4}, "--defocus-min 30000: larger than --defocus-max 25000; swap them"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as fault:
        make(**values)
    assert str(fault.value).startswith(message)


@pytest.mark.parametrize("method", ["gaussian", "phases"])
def test_noise_like_a_micrograph(method: str) -> None:
    rng = np.random.default_rng(1)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    colour = 1 / (0.1 + frequency)
    image = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((256, 256))) * colour, s=(256, 256))
    image = (image + 7).astype(np.float32)
    parameters = SimulateNoiseParameters(method=method, tile=64)
    drawn = noise_like(image, parameters, np.random.default_rng(2))
    assert drawn.mean() == pytest.approx(7, abs=0.3)
    band = (frequency > 0.05) & (frequency < 0.45)
    power = np.abs(np.fft.rfft2(drawn)) ** 2 / colour**2 / image.size
    # 0.94 to 1.03 over ten seeds.
    assert power[band].mean() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(drawn.ravel(), image.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64)), "is constant; leave out that micrograph"),
        (np.full((64, 64), np.nan), "holds NaN or infinite pixels; mend or leave out that micrograph"),
        (np.eye(64), "is 64 × 64 px; give a smaller --tile than 128"),
    ],
)
def test_what_has_no_noise_is_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError) as fault:
        noise_like(image.astype(np.float32), SimulateNoiseParameters(), np.random.default_rng(0))
    assert str(fault.value) == message
