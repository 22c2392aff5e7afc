"""The published outlier rule against a plain version of it, and against pictures whose verdict is plain to see.

``plain_verdict`` below is the oracle: one image at a time, NumPy's FFT and sort, scikit-learn's DBSCAN. The benchmark
measures it too.
"""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from napari_pickbias.errors import InputError
from napari_pickbias.outliers.reference import (
    BLOCK_IMAGES,
    ReferenceDetector,
    fit_reference,
    radial_kernel,
    reference_verdicts,
)
from napari_pickbias.outliers.verdicts import COLUMNS, REASONS, Detector


def plain_verdict(
    image,
    r,
    *,
    mean,
    k=None,
    points=10,
    eps=None,
    omega=None,
    edge=None,
    dark=False,
    cut_border=False,
    cluster_rule=False,
    any_anomaly=False,
    one_sided=False,
):
    """Return reason, number of anomalies, number of clusters and the mean position of the first cluster."""
    d = len(image)
    k = int(0.3 * d) if k is None else k
    omega = round(points / 3) if omega is None else omega
    far = d - r if edge is None else edge
    image = image.astype(float) - mean
    image = image / image.max()
    grid = np.mgrid[:k, :k] - (k - 1) / 2
    gaussians = [np.exp(-(grid**2).sum(axis=0) / (2 * (share * k) ** 2)) for share in (0.05, 0.15, 0.25, 0.35, 0.45)]
    h = sum(gaussian / gaussian.sum() for gaussian in gaussians)
    filtered = np.fft.ifft2(np.fft.fft2(image) * np.fft.fft2(h, s=(d, d))).real
    filtered = -np.roll(filtered, (-(k // 2), -(k // 2)), axis=(0, 1))
    cut = k // 2 if cut_border else 0
    inner = filtered[cut : d - cut, cut : d - cut]
    order = np.argsort(inner, axis=None, kind="stable")
    order = order[-points:] if dark else order[:points]
    where = np.stack(np.unravel_index(order, inner.shape), axis=1) + cut
    labels = DBSCAN(eps=r if eps is None else eps, min_samples=omega).fit_predict(where)
    clusters = labels.max() + 1
    centres = [where[labels == c].mean(axis=0) for c in range(clusters)]
    xi = where[labels == -1]
    first_inside, last_inside = (0, far - cut) if one_sided else (d - far + cut + 1e-9, far - cut - 1e-9)

    def sides(positions):
        """Per point: in the band at the top, at the left, at the bottom, at the right."""
        return np.hstack([positions < first_inside, positions > last_inside])

    chopped = sides(xi).any() if any_anomaly else len(xi) > 0 and sides(xi).all(axis=0).any()
    chopped = chopped or any(sides(np.round(centre)).any() for centre in centres)
    first = centres[0] if centres else np.full(2, np.nan)
    if len(xi) > omega:
        reason = "noise"
    elif chopped:
        reason = "partial"
    elif cluster_rule and clusters > 1:
        reason = "multiple"
    else:
        reason = "kept"
    return reason, len(xi), clusters, first


def stack(rng, count, side, signal=0.6):
    """Images of noise with none to two blobs, some of them cut by the border; mean about 0."""
    y, x = np.mgrid[:side, :side]
    images = rng.standard_normal((count, side, side))
    for i in range(count):
        for _ in range(i % 3):
            cy, cx = rng.uniform(-0.1 * side, 1.1 * side, 2)
            images[i] += 4 * signal * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (side / 7) ** 2))
    return images


def blob(side, cy, cx, width=3.0):
    y, x = np.mgrid[:side, :side]
    return np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))


def reasons(verdicts):
    return [REASONS[code] for code in verdicts["reason"]]


def assert_equal_to_plain(images, r, plain_options, options) -> None:
    verdicts = reference_verdicts(images, r, **options)
    mean = options.get("stack_mean", images.mean())
    side = images.shape[1]
    k = options.get("kernel_px") or int(0.3 * side)
    for i, image in enumerate(images):
        reason, anomalies, clusters, centre = plain_verdict(image, r, mean=mean, **plain_options)
        found = (REASONS[verdicts["reason"][i]], verdicts["anomalies"][i], verdicts["clusters"][i])
        assert found == (reason, anomalies, clusters), f"image {i}"
        assert verdicts["keep"][i] == (reason == "kept")
        expected = centre - side // 2 + (0 if k % 2 else 0.5)
        np.testing.assert_allclose([verdicts["center_y_px"][i], verdicts["center_x_px"][i]], expected, atol=1e-5)


CASES = {
    "as coded": ({}, {}),
    "even kernel": ({"k": 10}, {"kernel_px": 10}),
    "no smoothing": ({"k": 1}, {"kernel_px": 1}),
    "many points": ({"points": 60, "omega": 5}, {"points": 60, "min_points": 5}),
    "short reach": ({"eps": 1.5, "omega": 2}, {"eps_px": 1.5, "min_points": 2}),
    "edge": ({"edge": 22.5}, {"edge_px": 22.5}),
    "dark": ({"dark": True, "eps": 2.0}, {"dark": True, "eps_px": 2.0}),
    "cut border": ({"cut_border": True}, {"cut_border": True}),
    "cut border, even": ({"cut_border": True, "k": 6}, {"cut_border": True, "kernel_px": 6}),
    "cluster rule": ({"cluster_rule": True}, {"cluster_rule": True}),
    "any anomaly": ({"any_anomaly": True}, {"any_anomaly": True}),
    "one-sided": ({"one_sided": True}, {"one_sided": True}),
    "Algorithm 1": ({"one_sided": True, "any_anomaly": True}, {"one_sided": True, "any_anomaly": True}),
    "all at once": (
        {"one_sided": True, "cluster_rule": True, "cut_border": True, "edge": 20.25, "dark": True},
        {"one_sided": True, "cluster_rule": True, "cut_border": True, "edge_px": 20.25, "dark": True},
    ),
    "below the mean": ({"mean": 30.0}, {"stack_mean": 30.0}),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_plain_version(case) -> None:
    plain_options, options = CASES[case]
    plain_options = dict(plain_options)
    plain_options.pop("mean", None)
    images = stack(np.random.default_rng(sum(case.encode())), 90, 33)
    assert_equal_to_plain(images, 4.5, plain_options, options)
    verdicts = reference_verdicts(images, 4.5, **options)
    assert len(set(reasons(verdicts))) > 1  # a case in which all images fare alike would test little


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    side=st.integers(12, 40),
    r=st.floats(0.03, 0.47),
    points=st.integers(4, 25),
    kernel=st.integers(1, 12),
    flags=st.lists(st.sampled_from(["dark", "cluster_rule", "any_anomaly", "one_sided"]), unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_the_plain_version_at_random_settings(side, r, points, kernel, flags, seed) -> None:
    chosen = dict.fromkeys(flags, True)
    images = stack(np.random.default_rng(seed), 8, side)
    assert_equal_to_plain(
        images,
        round(r * side, 2),
        {"points": points, "k": kernel, **chosen},
        {"points": points, "kernel_px": kernel, **chosen},
    )


def test_kernel_is_five_gaussians_of_sum_one() -> None:
    for k in (1, 4, 9, 10, 16):
        kernel = radial_kernel(k)
        assert kernel.shape == (k, k)
        assert kernel.sum() == pytest.approx(5)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1])
        np.testing.assert_allclose(kernel, kernel.T)
    # two pixels: the distance of each from the centre is the same, so every Gaussian is 1/4 everywhere
    np.testing.assert_allclose(radial_kernel(2), 1.25)


def test_bands_are_inclusive_and_one_pixel_closer_at_the_far_side() -> None:
    side, r = 33, 5
    images = np.stack([blob(side, index, 16) for index in range(2, 31)])
    images = np.concatenate([images, images.transpose(0, 2, 1)])
    verdicts = reference_verdicts(images, r, points=9)  # 9 points, odd kernel: the 3 x 3 square about the centre
    accepted = np.flatnonzero(verdicts["keep"][:29]) + 2
    np.testing.assert_array_equal(accepted, np.arange(r + 1, side - r))
    np.testing.assert_array_equal(verdicts["keep"][:29], verdicts["keep"][29:])
    assert set(reasons(verdicts)) == {"kept", "partial"}


@pytest.mark.parametrize(
    ("anomalies", "all_in_one_band", "any_in_a_band"),
    [
        ([(5, 10), (5, 20), (1, 16)], True, True),  # the band along the first rows ends at index r
        ([(28, 10), (28, 20), (32, 16)], True, True),  # along the last rows it begins at d - r
        ([(10, 5), (20, 5), (16, 1)], True, True),
        ([(10, 28), (20, 28), (16, 32)], True, True),
        ([(6, 10), (5, 20), (1, 16)], False, True),
        ([(27, 10), (28, 20), (32, 16)], False, True),
        ([(10, 6), (20, 5), (16, 1)], False, True),
        ([(10, 27), (20, 28), (16, 32)], False, True),
        ([(5, 10), (28, 20), (20, 5)], False, True),  # each in a band, but not in the same
        ([(6, 6), (27, 27), (6, 27)], False, False),
        ([], False, False),
    ],
)
def test_anomalies_must_share_a_band(anomalies, all_in_one_band, any_in_a_band) -> None:
    image = np.zeros((1, 33, 33))
    image[0, 15:18, 15:18] = np.arange(10, 19).reshape(3, 3)
    for height, (row, column) in enumerate(anomalies, 20):
        image[0, row, column] = height
    options = {"kernel_px": 1, "points": 9 + len(anomalies), "eps_px": 2, "min_points": 3}
    as_coded, any_one = (reference_verdicts(image, 5, any_anomaly=flag, **options) for flag in (False, True))
    assert as_coded["anomalies"][0] == len(anomalies)
    assert as_coded["clusters"][0] == 1
    assert reasons(as_coded) == ["partial" if all_in_one_band else "kept"]
    assert reasons(any_one) == ["partial" if any_in_a_band else "kept"]


def test_one_sided_edge_accepts_the_near_side_and_its_own_index() -> None:
    images = np.stack([blob(33, index, 16) for index in range(2, 31)])
    verdicts = reference_verdicts(images, 5, points=9, one_sided=True)
    np.testing.assert_array_equal(np.flatnonzero(verdicts["keep"]) + 2, np.arange(2, 29))


@pytest.mark.parametrize("kernel", [9, 10])
@pytest.mark.parametrize("side", [33, 34])
def test_centre_is_that_of_the_particle_also_with_an_even_kernel(side, kernel) -> None:
    images = np.stack([blob(side, side // 2 + 2, side // 2 - 3), blob(side, side // 2 - 4, side // 2 + 1)])
    verdicts = reference_verdicts(images, 5, kernel_px=kernel, points=9 if kernel % 2 else 4)
    np.testing.assert_allclose(verdicts["center_y_px"], [2, -4], atol=1e-6)
    np.testing.assert_allclose(verdicts["center_x_px"], [-3, 1], atol=1e-6)
    np.testing.assert_allclose(verdicts["offset_px"], np.hypot([2, -4], [-3, 1]), atol=1e-5)
    assert verdicts["keep"].all()


def test_two_particles_pass_unless_the_cluster_rule_is_on() -> None:
    image = (blob(33, 16, 9) + 1.001 * blob(33, 16, 23))[None]
    as_coded = reference_verdicts(image, 4, points=18)
    assert reasons(as_coded) == ["kept"]
    assert as_coded["clusters"][0] == 2
    assert as_coded["center_x_px"][0] == pytest.approx(23 - 16, abs=0.6)  # the brighter one comes first
    assert as_coded["second_x_px"][0] == pytest.approx(9 - 16, abs=0.6)
    assert as_coded["second_y_px"][0] == pytest.approx(0, abs=0.6)
    assert reasons(reference_verdicts(image, 4, points=18, cluster_rule=True)) == ["multiple"]


def test_dark_particles() -> None:
    images = np.stack([blob(33, 16, 16), blob(33, 3, 16)])
    noise = np.random.default_rng(5).normal(scale=0.01, size=images.shape)
    assert reasons(reference_verdicts(noise - images, 5, dark=True)) == ["kept", "partial"]
    assert reasons(reference_verdicts(noise + images, 5)) == ["kept", "partial"]
    assert not reference_verdicts(noise - images, 5)["keep"].any()


def test_an_image_darker_than_the_stack_mean_changes_sign() -> None:
    images = stack(np.random.default_rng(7), 60, 33)
    mean = images.max() + 1
    flipped = reference_verdicts(images, 5, stack_mean=mean)
    negated = reference_verdicts(-images, 5, stack_mean=-images.max() - 1)
    np.testing.assert_array_equal(flipped["reason"], negated["reason"])
    assert (flipped["reason"] != reference_verdicts(images, 5)["reason"]).any()


def test_units_of_the_grey_values_do_not_matter() -> None:
    images = stack(np.random.default_rng(8), 60, 33)
    verdicts = reference_verdicts(images, 5)
    for other in (3 * images, images + 40, 1e-12 * images, 1e12 * images - 5e13):
        again = reference_verdicts(other, 5)
        for name in ("reason", "anomalies", "clusters", "center_y_px", "center_x_px"):
            np.testing.assert_array_equal(again[name], verdicts[name])


def test_images_that_cannot_be_ranked_are_noise_and_leave_the_others_alone() -> None:
    images = stack(np.random.default_rng(9), 12, 33).astype(np.float32)
    expected = reference_verdicts(images, 5, stack_mean=0.0, dtype=np.float32)
    assert expected["keep"].any()
    damaged = images.copy()
    damaged[1, 4, 5] = np.nan
    damaged[3, 0, 0] = np.inf
    damaged[4, 0, 0] = -np.inf
    damaged[6] = 2.5  # constant
    damaged[7] = 0.0
    damaged[9, 3, 3] = 3e38  # finite, but sums of such pixels are not
    damaged[10] = np.minimum(damaged[10], 0)  # its maximum is the stack's mean
    bad = [1, 3, 4, 6, 7, 9, 10]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdicts = reference_verdicts(damaged, 5, stack_mean=0.0, dtype=np.float32)
    assert {reasons(verdicts)[i] for i in bad} == {"noise"}
    assert (verdicts["anomalies"][bad] == -1).all()
    assert (verdicts["clusters"][bad] == -1).all()
    assert np.isnan(verdicts["center_y_px"][bad]).all()
    good = [i for i in range(12) if i not in bad]
    for name, values in expected.items():
        np.testing.assert_array_equal(verdicts[name][good], values[good])


def test_the_stack_mean_is_that_of_finite_pixels() -> None:
    images = np.ones((2 * BLOCK_IMAGES + 3, 12, 12), np.float16)
    images[-1] = 4
    images[0, 0, 0], images[1, 0, 0], images[300, 1, 1] = np.nan, np.inf, -np.inf
    expected = images[np.isfinite(images)].mean(dtype=np.float64)
    assert fit_reference(images, 3).stack_mean == pytest.approx(expected, rel=1e-12)
    assert fit_reference(np.full((2, 12, 12), np.nan), 3).stack_mean == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_is_judged_alike_wherever_it_stands(dtype) -> None:
    # small integers: many equal pixels, whose order in the map hangs on the last bit of the filter
    images = np.random.default_rng(10).integers(-1, 2, (BLOCK_IMAGES + 45, 33, 33)).astype(np.float32)
    detector = ReferenceDetector(33, 5, dtype=dtype)
    whole = detector.evaluate(images)
    for size in (1, 7, 100):
        pieces = [detector.evaluate(images[i : i + size]) for i in range(0, len(images), size)]
        for name, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), values)


def test_several_threads_may_share_a_detector() -> None:
    images = stack(np.random.default_rng(14), 120, 33).astype(np.float32)
    detector = ReferenceDetector(33, 5)
    expected = detector.evaluate(images)["reason"]
    with ThreadPoolExecutor(4) as pool:
        for verdicts in pool.map(detector.evaluate, [images] * 12):
            np.testing.assert_array_equal(verdicts["reason"], expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.float16, np.float64])
def test_any_real_pixel_type(dtype) -> None:
    images = (100 + 10 * stack(np.random.default_rng(11), 40, 33)).astype(dtype)
    verdicts = ReferenceDetector(33, 5, stack_mean=100.5).evaluate(images)
    expected = ReferenceDetector(33, 5, stack_mean=100.5, dtype=np.float64).evaluate(images.astype(np.float64))
    assert np.mean(verdicts["reason"] == expected["reason"]) > 0.95  # equal pixels of integer images: order is open
    if dtype in (np.float16, np.float64):
        np.testing.assert_array_equal(verdicts["reason"], expected["reason"])


def test_detector_gives_the_agreed_columns() -> None:
    images = stack(np.random.default_rng(12), 30, 33).astype(np.float32)
    detector: Detector = fit_reference(images, 5)
    columns = detector.evaluate(images)
    assert {name: values.dtype.type for name, values in columns.items()} == COLUMNS
    assert all(values.shape == (30,) for values in columns.values())
    np.testing.assert_array_equal(columns["keep"], columns["reason"] == 0)
    assert np.isnan(columns["score"]).all()
    assert detector.box_px == 33
    assert {name: len(values) for name, values in detector.evaluate(images[:0]).items()} == dict.fromkeys(COLUMNS, 0)


def test_detector_is_a_value() -> None:
    detector = ReferenceDetector(55, 17)
    assert detector == ReferenceDetector(55, 17)
    assert pickle.loads(pickle.dumps(detector)) == detector
    assert detector.parameters == {
        "radius_px": 17,
        "stack_mean": 0.0,
        "kernel_px": 16,  # int(0.3 * 55)
        "points": 10,
        "eps_px": 17,
        "min_points": 3,
        "edge_px": 38,
        "dark": False,
        "cut_border": False,
        "cluster_rule": False,
        "any_anomaly": False,
        "one_sided": False,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius_px": 0}, "radius_px: 0 is not a radius; give one above 0"),
        (
            {"radius_px": 16.5},
            "radius_px: no particle of radius 16.5 px passes in a box of 33 px (edge at 16.5 px);"
            " give a smaller radius or extract larger boxes",
        ),
        ({"stack_mean": np.nan}, "stack_mean: nan is not finite; leave damaged images out of the mean"),
        ({"kernel_px": 34}, "kernel_px: 34 does not fit a box of 33 px; give 1 to 33"),
        ({"points": 1}, "points: 1 pixels cannot be chosen from 1089; give 2 to 1089"),
        ({"points": 700, "cut_border": True}, "points: 700 pixels cannot be chosen from 625; give 2 to 625"),
        ({"eps_px": -1.0}, "eps_px: -1 is not a reach; give one above 0"),
        ({"min_points": 10}, "min_points: 10 of 10 points cannot tell clusters from anomalies; give 1 to 9"),
        ({"dtype": np.float16}, "dtype: float16 is not a precision of the filter; use float32 or float64"),
    ],
)
def test_options_out_of_range_are_named(options, message) -> None:
    with pytest.raises(InputError) as error:
        ReferenceDetector(**{"box_px": 33, "radius_px": 5, **options})
    assert str(error.value) == message


def test_images_of_another_shape_are_named() -> None:
    with pytest.raises(InputError) as error:
        ReferenceDetector(33, 5).evaluate(np.zeros((4, 32, 32), np.float32))
    assert str(error.value) == "images: shape (4, 32, 32) does not fit the detector; give (n, 33, 33)"
    with pytest.raises(InputError) as error:
        reference_verdicts(np.zeros((33, 33)), 5)
    assert str(error.value) == "images: shape (33, 33) is not a stack of square boxes; give (n, d, d)"
