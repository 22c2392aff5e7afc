"""`pickbias demo`: the main job on embedded data, with the truth beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_pickbias.cli.main import main


def test_the_demo_ends_with_a_report_that_agrees_with_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--quick", "--out", "demo"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "report: demo/report.html"
    results = json.loads(Path("demo/summary.json").read_text())["results"]
    found = results["outliers"]
    kinds = found["by_kind"]
    assert sum(line["particles"] for line in kinds.values()) == 1200
    # Kept over six seeds: inliers .974-.987, noise .006-.022, partial 0-.028, multiple .11-.21.
    assert kinds["inlier"]["kept_fraction"] > 0.94
    assert kinds["noise"]["kept_fraction"] < 0.06
    assert kinds["partial"]["kept_fraction"] < 0.1
    assert kinds["multiple"]["kept_fraction"] < 0.4
    assert found["junk_after"] < 0.06 < 0.3 < found["junk_before"]
    soft = results["softmodes"]
    # Poses that may follow hide information: in this stack half of what known poses would give (.127 of .256).
    assert 0.3 < soft["eigenvalues"][0] / soft["known_pose_eigenvalues"][0] < 0.7
    assert soft["valid"]
    assert "a change of" in said
    # Four seeds: 260 to 290 picks from pure noise, like the template by .86 to .88, verdict "template" each time.
    noise = results["bias"]
    assert noise["verdict"] == "template"
    assert noise["observed_picks"] > 150
    assert noise["plain_agreement"]["in_band"] > 0.7
    assert abs(noise["evidence_beyond_band"]["value"]) < 0.15
    assert "look like the template" in said
    assert Path("demo/bias/twin/particles.star").exists()
    html = Path("demo/report.html").read_text()
    assert f"{kinds['inlier']['kept']:,}" in html
    assert Path("demo/outliers/kept.star").exists()
    assert Path("demo/softmodes/report.html").exists()
    assert main(["demo", "--quick", "--out", "demo", "--resume"]) == 0
    assert main(["demo", "--quick", "--out", "demo", "--quiet"]) == 2
    assert "--overwrite" in capsys.readouterr().err
