"""``pickbias bias --picker``: a program of the user's is run on the micrographs and on noise like them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

from napari_pickbias.cli.main import main
from napari_pickbias.errors import InputError
from napari_pickbias.imaging.phantoms import blob_volume, phantom
from napari_pickbias.imaging.projection import project
from napari_pickbias.imaging.rotations import matrices_from_euler
from napari_pickbias.records import write_mrc
from napari_pickbias.runs.bias_picker import filled, link_names, pick_files, split_command

PIXEL = 7.0
PROGRAM = '''
"""Picks maxima of a micrograph blurred by a disc: counts its runs, and leaves what it was given on record."""
import sys
from pathlib import Path

import mrcfile
import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

out, level, images = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
record = Path(__file__).with_suffix(".runs")
record.write_text((record.read_text() if record.exists() else "") + " ".join(Path(i).name for i in images) + "\\n")
lines = ["image_name\\tx_coord\\ty_coord\\tscore"]
for name in images:
    with mrcfile.open(name) as file:
        image, pixel = file.data.astype(float), float(file.voxel_size.x)
    assert abs(pixel - 7.0) < 1e-3, pixel
    found = gaussian_filter(image, 4) - gaussian_filter(image, 12)
    found /= 0.2  # about the deviation of what the noise of these micrographs gives
    places = (maximum_filter(found, 15) == found) & (found > level)
    for y, x in np.argwhere(places):
        lines.append(f"{Path(name).stem}\\t{x}\\t{y}\\t{found[y, x]:.4f}")
out.write_text("\\n".join(lines) + "\\n")
'''


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two micrographs of bright bars, their template, and a program that picks bright places."""
    folder = tmp_path_factory.mktemp("picker project")
    rng = np.random.default_rng(4)
    volume = blob_volume(phantom(11.0, elongation=1.5), 32)
    write_mrc(
        folder / "templates.mrcs", project(volume, matrices_from_euler(np.array([[0.0, 90.0, 0.0]]))), PIXEL, stack=True
    )
    (folder / "mics").mkdir()
    for number in range(2):
        image = rng.standard_normal((352, 352))
        grid = [(y, x) for y in range(36, 320, 56) for x in range(36, 320, 56)]
        psi = rng.uniform(0, 360, len(grid))
        views = project(
            volume, matrices_from_euler(np.column_stack([np.zeros(len(grid)), np.full(len(grid), 90.0), psi]))
        )
        for (y, x), view in zip(grid, views, strict=True):
            image[y - 16 : y + 16, x - 16 : x + 16] += 14 * view / np.linalg.norm(view)
        write_mrc(folder / "mics" / f"mic{number}.mrc", (40 + 3 * image).astype(np.float32), PIXEL)
    (folder / "my picker.py").write_text(PROGRAM)
    return folder


def places_of(image: np.ndarray, level: float) -> int:
    """Count the picks of the program above."""
    found = (gaussian_filter(image, 4) - gaussian_filter(image, 12)) / 0.2
    return int(((maximum_filter(found, 15) == found) & (found > level)).sum())


def command(folder: Path, level: float = 1.5) -> str:
    program = shlex.quote(str(folder / "my picker.py"))
    return f"{shlex.quote(sys.executable)} {program} {{out}} {level} {{micrographs}}"


def arguments(folder: Path, out: Path, picker: str, *more: str) -> list[str]:
    return [
        "bias", "--micrographs", str(folder / "mics"), "--templates", str(folder / "templates.mrcs"), "--out", str(out),
        "--lowpass", "60", "--diameter", "170", "--angular-step", "30", "--contrast", "white", "--nulls", "8",
        "--surrogates", "2", "--threads", "1", "--picker", picker, *more,
    ]  # fmt: skip


def test_the_null_is_what_the_program_takes_from_noise(
    project_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record = tmp_path / "out", project_folder / "my picker.runs"
    assert main(arguments(project_folder, out, command(project_folder))) == 0
    # once on the data, and once on each noise image; the names stay
    assert record.read_text().splitlines() == ["mic0.mrc mic1.mrc"] * 3
    results = json.loads((out / "summary.json").read_text())["results"]
    own = results["picker"]
    assert own["noise_images_per_micrograph"] == 2
    # what the same rule gives on noise that never held a particle
    rng = np.random.default_rng(0)
    truth = np.mean([places_of(3 * rng.standard_normal((352, 352)), 1.5) for _ in range(8)]) * 2
    assert own["expected_null_picks"] == pytest.approx(truth, rel=0.25)
    low, high = own["expected_null_picks_interval"]
    assert 0.7 * own["expected_null_picks"] < low < own["expected_null_picks"] < high
    assert own["observed_picks"] > 100
    assert results["expected_null_picks"] == own["expected_null_picks"]
    assert results["null_fraction"] == own["null_fraction"]
    # bright places of noise: their mean is a bright spot, that of random places is nothing
    means = mrcfile.read(out / "picker_noise_means.mrcs")
    assert means[0][13:17, 13:17].mean() > 5 * abs(means[2][13:17, 13:17].mean())
    assert np.mean(own["half_agreement_of_means"]["picker"]) > 0.6
    assert abs(np.mean(own["half_agreement_of_means"]["random"])) < 0.6
    curve = np.loadtxt(out / "picker_fdr.csv", delimiter=",", skiprows=1)
    assert curve[-1, 3] < curve[0, 3]
    assert own["recommended_own_score"] > 2
    assert "What your picker takes from noise" in (out / "report.html").read_text()
    assert not (out / ".pickbias" / "picker").exists()
    capsys.readouterr()
    assert main(arguments(project_folder, out, command(project_folder), "--resume")) == 0
    assert "finished already" in capsys.readouterr().out
    assert len(record.read_text().splitlines()) == 3


def test_finished_runs_of_the_program_are_not_done_again(project_folder: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "out", tmp_path / "count"
    # the first run on noise fails, after the data were picked
    program = tmp_path / "once.py"
    program.write_text(
        PROGRAM.replace('Path(__file__).with_suffix(".runs")', f"Path({str(record)!r})")
        + f"\nflag = Path({str(tmp_path / 'mended')!r})\n"
        "if len(record.read_text().splitlines()) == 2 and not flag.exists():\n    sys.exit('no memory on this card')\n"
    )
    call = f"{shlex.quote(sys.executable)} {program} {{out}} 1.0 {{micrographs}}"
    assert main(arguments(project_folder, out, call, "--quiet")) == 2
    assert len(record.read_text().splitlines()) == 2
    (tmp_path / "mended").touch()
    assert main(arguments(project_folder, out, call, "--resume", "--quiet")) == 0
    assert len(record.read_text().splitlines()) == 4  # noise twice; not the data again


@pytest.mark.parametrize(
    ("picker", "fault"),
    [
        ("no_such_picker -o {out} {micrographs}", "--picker no_such_picker: no such program; check its name"),
        ("{python} -o {out}", "does not say where the micrographs go; write {micrographs}"),
        ("{python} {micrographs}", "does not say where the picks go; write {out} where it takes its output"),
        ("{python} 'a {out} {micrographs}", "its quotes do not match (No closing quotation); close them"),
        (
            "{python} -c 'import sys; sys.exit(\"bad model\")' {out} {folder}",
            "ended with fault 1: bad model; run it by",
        ),
        ("{python} -c pass {out} {micrographs}", "wrote nothing to its {out}; check where the command says {out}"),
        (
            '{python} -c \'import sys; open(sys.argv[1], "w").write("hello")\' {out} {folder}',
            "wrote picks, which is no file of picks known here; let it write one of .star, .box",
        ),
        (
            '{python} -c \'import sys; open(sys.argv[1] + ".txt", "w").write("a\\tb\\n1\\t2\\n")\' {out} {folder}',
            "has no column image_name, so it is no table of Topaz; give one with image_name, x_coord, y_coord",
        ),
        (
            '{python} -c \'import sys; open(sys.argv[1] + ".txt", "w").write('
            '"image_name\\tx_coord\\ty_coord\\nother\\t2\\t3\\n")\' {out} {folder}',
            "none of its 1 picks names a micrograph that it was given, such as mic0.mrc; let it keep their names",
        ),
        (
            '{python} -c \'import sys; open(sys.argv[1] + ".txt", "w").write('
            '"image_name\\tx_coord\\ty_coord\\n")\' {out} {folder}',
            "picks nothing on these micrographs; lower its threshold",
        ),
    ],
)
def test_faults_are_one_line(
    project_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], picker: str, fault: str
) -> None:
    out = tmp_path / "out"
    call = picker.replace("{python}", shlex.quote(sys.executable))
    assert main(arguments(project_folder, out, call)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("pickbias: ")
    assert fault in said
    # the next try needs no flag
    assert not out.exists()


def test_a_program_that_does_not_end_is_ended(
    project_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "alive"
    program = f"import time, pathlib; pathlib.Path({str(mark)!r}).touch(); time.sleep(3); print(1); " * 40
    call = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {{out}} {{micrographs}}"
    assert main(arguments(project_folder, tmp_path / "out", call, "--picker-timeout", "1")) == 2
    assert "did not end within 1 s; raise --picker-timeout, or try it by hand" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process group")
def test_stopping_the_run_ends_the_program(project_folder: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    program = tmp_path / "slow.py"
    program.write_text(
        f"import os, time\nopen({str(number)!r}, 'w').write(str(os.getpid()))\ntime.sleep(120)\n", encoding="utf-8"
    )
    call = f"{shlex.quote(sys.executable)} {program} {{out}} {{micrographs}}"
    run = subprocess.Popen(
        [sys.executable, "-m", "napari_pickbias", *arguments(project_folder, tmp_path / "out", call)],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            if number.exists() and number.read_text():
                break
            time.sleep(0.1)
        child = int(number.read_text())
        run.send_signal(signal.SIGINT)
        run.wait(30)
    finally:
        run.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_names_are_whole_arguments(tmp_path: Path) -> None:
    files = [tmp_path / "a; rm -rf b.mrc", tmp_path / "$(touch c).mrc"]
    parts = split_command(f"{shlex.quote(sys.executable)} --out={{out}} 'two words' {{micrographs}} {{folder}}/x")
    assert filled(parts, files, tmp_path, tmp_path / "o p") == [
        sys.executable, f"--out={tmp_path / 'o p'}", "two words", str(files[0]), str(files[1]), f"{tmp_path}/x",
    ]  # fmt: skip


def test_of_several_formats_the_one_with_scores_is_read(tmp_path: Path) -> None:
    for name in ("EMAN/m1.box", "CBOX/m1.cbox", "STAR/m1.star"):
        (tmp_path / "picks" / name).parent.mkdir(parents=True)
        (tmp_path / "picks" / name).touch()
    assert pick_files(tmp_path / "picks", "cryolo") == [tmp_path / "picks" / "CBOX" / "m1.cbox"]
    empty = tmp_path / "other" / "picks"
    empty.mkdir(parents=True)
    assert pick_files(empty, "cryolo") == []
    with pytest.raises(InputError, match="wrote nothing"):
        pick_files(tmp_path / "nowhere" / "picks", "cryolo")


def test_micrographs_of_one_name_are_numbered() -> None:
    assert link_names(["a/m1.mrc", "b/m2.mrc"]) == ["m1.mrc", "m2.mrc"]
    assert link_names(["a/m1.mrc", "b/m1.mrc"]) == ["000001_m1.mrc", "000002_m1.mrc"]
