"""How quick the Curate dock is at full size: 300 micrographs, 100,000 picks, a gallery of as many.

Run on a virtual screen that draws::

    LIBGL_ALWAYS_SOFTWARE=1 QT_QPA_PLATFORM=xcb xvfb-run -a -s '-screen 0 1600x1200x24 +extension GLX' \\
        python benchmarks/napari_sizes.py

Prints the least and the median of several repeats; times include drawing. Micrographs are links to a few files, so the
disk's cache helps: what is measured is reading from memory, binning and drawing.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_pickbias.records import write_mrc


def make(folder: Path, micrographs: int, picks: int, side: int) -> Path:
    rng = np.random.default_rng(0)
    (folder / "mics").mkdir(parents=True)
    for number in range(min(4, micrographs)):
        write_mrc(folder / f"real{number}.mrc", rng.normal(10, 2, (side, side)).astype(np.float32), 1.0)
    for number in range(micrographs):
        (folder / "mics" / f"m{number:04d}.mrc").symlink_to(folder / f"real{number % 4}.mrc")
    which = np.sort(rng.integers(0, micrographs, picks))
    xy, score = rng.integers(100, side - 100, (picks, 2)), rng.normal(6, 2, picks)
    labels = ["MicrographName", "CoordinateX", "CoordinateY", "AutopickFigureOfMerit", "AnglePsi", "ClassNumber"]
    head = ["data_", "", "loop_", *(f"_rln{name} #{k}" for k, name in enumerate(labels, 1))]
    rows = [
        f"mics/m{m:04d}.mrc {x} {y} {s:.4f} 12.5 1"
        for m, (x, y), s in zip(which.tolist(), xy.tolist(), score.tolist(), strict=True)
    ]
    star = folder / "picks.star"
    star.write_text("\n".join([*head, *rows]) + "\n")
    return star


def draw() -> None:
    for _ in range(3):
        QApplication.processEvents()


def measure(name: str, action: Callable[[int], object], repeats: int = 8) -> None:
    times = []
    for k in range(repeats):
        start = time.perf_counter()
        action(k)
        draw()
        times.append(time.perf_counter() - start)
    print(f"{name:48s} least {1e3 * min(times):7.0f} ms   median {1e3 * np.median(times):7.0f} ms", flush=True)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--micrographs", type=int, default=300)
    parser.add_argument("--picks", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=4096)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        star = make(Path(name), chosen.micrographs, chosen.picks, chosen.side)
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1500, 1000)
        _, widget = viewer.window.add_plugin_dock_widget("napari-pickbias", "Curate")
        widget.diameter.setValue(150)
        draw()
        before = memory_mb()

        def open_file(_k: int) -> None:
            widget.open(star)
            while widget.job.running:
                QApplication.processEvents()

        measure("open, from the file to the screen", open_file, 2)
        layers, curation = widget.layers, widget.curation
        print(f"memory: {before:.0f} MB before, {memory_mb():.0f} MB after opening (peak)")

        def step(k: int) -> None:
            layers.go_to_micrograph(k + 1)
            viewer.screenshot(canvas_only=True, flash=False)

        measure("next micrograph (read, binned, drawn)", step, 12)
        measure("jump to another micrograph", lambda k: step(37 * k % chosen.micrographs), 8)
        low, high = curation.extent("rlnAutopickFigureOfMerit")
        ends = np.linspace(low + 1, high - 3, 8)
        measure("range handle moved: verdicts and circles", lambda k: widget.range.slider.setValue((ends[k], high)))
        measure("histogram, counts and list after it", lambda _k: widget._refresh_slow())

        def hide(k: int) -> None:
            widget.hide_box.setChecked(k % 2 == 0)

        measure("hide or show rejected", hide)
        measure("colour by a column", lambda k: widget.color_box.setCurrentIndex(1 + k % 2))
        measure("undo", lambda _k: widget.undo(), 1)
        measure("select all above, reject, undo", lambda _k: _reject(widget), 4)
        widget.tabs.setCurrentWidget(widget.gallery)
        draw()
        gallery, bar = widget.gallery, widget.gallery.view.verticalScrollBar()
        measure("gallery: sort", lambda k: gallery.direction.setCurrentIndex(k % 2), 4)
        draw()
        measure("gallery: scroll a page (crops read and drawn)", lambda k: bar.setValue(bar.pageStep() * (k + 1)), 8)
        measure("gallery: jump anywhere", lambda k: bar.setValue(int(bar.maximum() * (k + 1) / 9)), 8)
        print(f"memory: {memory_mb():.0f} MB at the end (peak)")
        viewer.close()


def _reject(widget: object) -> None:
    widget.select("above", "rlnAutopickFigureOfMerit", 8.0)
    widget.decide("rejected")
    widget.undo()


if __name__ == "__main__":
    main()
