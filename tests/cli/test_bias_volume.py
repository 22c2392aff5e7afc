"""``pickbias bias --volume --bait --controls``: files, figures, report, and what is refused at once."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest

from napari_pickbias.cli.main import main
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import fourier_volume, project
from napari_pickbias.imaging.rotations import random_rotations
from napari_pickbias.jobs import bias_volume
from napari_pickbias.records import write_mrc

PIXEL = 7.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micrograph of bright particles in all orientations, and their map."""
    folder = tmp_path_factory.mktemp("volume")
    rng = np.random.default_rng(4)
    volume = blob_volume(phantom(11.0, elongation=1.5), 32)
    write_mrc(folder / "map.mrc", volume, PIXEL)
    write_mrc(folder / "small.mrc", volume[:16, :16, :16], PIXEL)
    write_mrc(folder / "averages.mrcs", volume[15:17], PIXEL, stack=True)
    (folder / "mics").mkdir()
    prepared = fourier_volume(volume)
    image = rng.standard_normal((352, 352))
    grid = [(y, x) for y in range(36, 320, 40) for x in range(36, 320, 40)]
    views = project(prepared, random_rotations(len(grid), rng))
    for (y, x), view in zip(grid, views, strict=True):
        image[y - 16 : y + 16, x - 16 : x + 16] += 16 * view / np.linalg.norm(view)
    write_mrc(folder / "mics" / "mic0.mrc", image.astype(np.float32), PIXEL)
    return folder


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "bias", "--micrographs", str(folder / "mics"), "--out", str(out), "--lowpass", "60", "--diameter", "170",
        "--angular-step", "60", "--contrast", "white", "--nulls", "8", "--surrogates", "3", "--threads", "1",
        "--threshold", "4", "--quiet", *more,
    ]  # fmt: skip


def test_maps_bait_and_controls(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GRID_ROTATIONS", 144), ("REPEATS", 6), ("TWINS", 1)):
        monkeypatch.setattr(bias_volume, name, value)
    out = tmp_path / "out"
    own = ["--map", str(scene / "map.mrc"), "--volume", "--bait", "auto", "--controls", "sphere"]
    assert main(arguments(scene, out, *own)) == 0
    results = json.loads((out / "summary.json").read_text())["results"]
    volume = results["volume"]
    assert sum(volume["picks"]) <= results["observed_picks"]
    assert volume["plain_fsc"]["in_band"] > 0.7
    assert np.mean(volume["noise"]["plain_in_band"]) > 0.5
    assert set(volume["evidence_beyond_band"]) == {"value", "null_mean", "null_sd", "z"}
    assert volume["maximum_likelihood"]["rotations"] == 144
    maps = {path.stem: mrcfile.read(path) for path in (out / "volume").iterdir()}
    assert {"template", "noise", "picks", "noise_removed", "picks_removed", "unfiltered"} <= set(maps)
    assert np.corrcoef(maps["picks"].ravel(), maps["template"].ravel())[0, 1] > 0.35
    curves = pd.read_csv(out / "fsc.csv")
    assert {"plain", "bias_removed", "null_low", "null_high", "noise_plain", "likelihood_plain"} <= set(curves)

    bait = results["bait"]
    assert bait["omitted_share"] == pytest.approx(0.15, abs=0.05)
    assert bait["omega"]["low"] <= bait["omega"]["value"] <= bait["omega"]["high"]
    assert set(bait["noise_omega"]) == {"value", "low", "high"}
    assert (out / "bait" / "baited.mrc").is_file()

    controls = results["controls"]
    assert [row["name"] for row in controls["templates"]] == ["your template", "sphere"]
    assert set(controls["smaller_mask"]) == {"value", "null_mean", "null_sd", "z"}
    text = (out / "report.html").read_text()
    for heading in ("In three dimensions", "The bait", "Controls"):
        assert f">{heading}<" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--templates", "averages.mrcs", "--volume"],
            "--volume: --templates {0}/averages.mrcs holds class averages, so picks have no angles in space; give the "
            "map they came from as --map, or leave --volume out",
        ),
        (
            ["--templates", "averages.mrcs", "--bait", "auto"],
            "--bait: --templates {0}/averages.mrcs holds class averages, so picks have no angles in space; give the "
            "map they came from as --map, or leave --bait out",
        ),
        (
            ["--map", "map.mrc", "--controls", "cube"],
            "--controls cube: cube is not known; give sphere, scrambled, other=MAP, or several of them with commas "
            "between",
        ),
        (
            ["--map", "map.mrc", "--bait", "small.mrc"],
            "--bait: the mask has 16 x 16 x 16 voxels, the map 32 x 32 x 32; give a mask on the map's grid",
        ),
    ],
)
def test_refused_at_once(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    files = [str(scene / one) if one.endswith((".mrc", ".mrcs")) else one for one in options]
    assert main(arguments(scene, tmp_path / "out", *files)) != 0
    said = capsys.readouterr().err
    assert message.format(scene) in said
    assert not (tmp_path / "out" / "summary.json").exists()
