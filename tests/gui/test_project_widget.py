"""The Open project dock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_pickbias.gui.preferences import PLUGIN
from napari_pickbias.gui.project_widget import ProjectWidget

pytestmark = pytest.mark.gui
PATIENCE = 120_000


@pytest.fixture
def viewer(make_napari_viewer_proxy) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def widget(viewer) -> ProjectWidget:
    return viewer.window.add_plugin_dock_widget(PLUGIN, "Open project")[1]


def look(qtbot, widget: ProjectWidget, folder: Path) -> None:
    widget.open(folder)
    qtbot.waitUntil(lambda: not widget.job.running, timeout=PATIENCE)


def choose(widget: ProjectWidget, name: str) -> None:
    for k in range(widget.tree.topLevelItemCount()):
        top = widget.tree.topLevelItem(k)
        for child in (top.child(i) for i in range(top.childCount())):
            if child.text(0) == name:
                widget.tree.setCurrentItem(child)
                return
    raise AssertionError(f"{name} is not in the tree")


def test_a_project_is_shown_curated_and_handed_on(viewer, widget, pick_files, particle_files, qtbot) -> None:
    root = pick_files.star.parent
    for kind, number, files in (("AutoPick", 3, ["picks.star"]), ("Extract", 4, ["particles.star"]), ("Ctf", 5, [])):
        folder = root / kind / f"job{number:03d}"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_text((root / name).read_text())
    look(qtbot, widget, root)
    assert widget.job.status.text() == f"RELION project {root}: 3 jobs; 1 have nothing to show."
    assert widget.tree.topLevelItem(0).text(0) == "Extract/job004"
    assert not widget.show_button.isEnabled()
    choose(widget, "picks.star")
    assert widget.curate_button.isEnabled()
    assert not widget.outlier_button.isEnabled()
    widget.show_file()
    assert [layer.name for layer in viewer.layers] == ["picks: micrographs", "picks: picks"]
    widget.curate()
    curate = viewer.window.add_plugin_dock_widget(PLUGIN, "Curate")[1]
    qtbot.waitUntil(lambda: curate.opened is not None and not curate.job.running, timeout=PATIENCE)
    assert curate.opened.source.path == root / "AutoPick/job003/picks.star"
    choose(widget, "particles.star")
    widget.outliers()
    outliers = viewer.window.add_plugin_dock_widget(PLUGIN, "Remove outliers")[1]
    assert outliers.form.source.text() == str(root / "Extract/job004/particles.star")


def test_faults_are_one_line(widget, tmp_path: Path, qtbot) -> None:
    widget.open()
    assert widget.job.status.text().startswith("“Open”: no folder is named")
    look(qtbot, widget, tmp_path)
    assert "is neither a RELION project" in widget.job.status.text()
    folder = tmp_path / "Extract" / "job001"
    folder.mkdir(parents=True)
    (folder / "particles.star").write_text("data_\n\nloop_\n_rlnImageName #1\n1@gone.mrcs\n")
    look(qtbot, widget, tmp_path)
    choose(widget, "particles.star")
    widget.show_file()
    assert "gone.mrcs" in widget.job.status.text()
