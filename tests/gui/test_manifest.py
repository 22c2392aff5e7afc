"""The manifest: found by napari, sound, and in step with the code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import napari_pickbias
from napari_pickbias.gui.micrograph_stack import MicrographStack
from napari_pickbias.gui.preferences import DEFAULTS, PLUGIN, preference, threads
from napari_pickbias.jobs.bias_parameters import BiasParameters
from napari_pickbias.records import write_mrc

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = Path(napari_pickbias.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution(PLUGIN)


def test_the_top_level_manifest_is_the_packages_own() -> None:
    link = ROOT / "napari.yaml"
    assert not link.readlink().is_absolute()
    assert link.resolve() == MANIFEST.resolve()


def test_the_distribution_announces_the_manifest(manifest: PluginManifest) -> None:
    assert manifest.display_name == "PickBias"
    assert manifest.model_dump() | {"package_metadata": None} == (
        PluginManifest.from_file(MANIFEST).model_dump() | {"package_metadata": None}
    )


@pytest.mark.gui
def test_every_command_can_be_imported() -> None:
    PluginManifest.from_file(MANIFEST).validate_imports()


def test_every_command_in_a_menu_or_widget_exists(manifest: PluginManifest) -> None:
    contributions = manifest.contributions
    commands = {command.id for command in contributions.commands}
    offered = (contributions.widgets, contributions.readers, contributions.writers, contributions.sample_data)
    used = {item.command for items in offered for item in items or []}
    menus = [item for items in contributions.menus.values() for item in items]
    used |= {item.command for item in menus if hasattr(item, "command")}
    assert used == commands
    assert {item.submenu for item in menus if hasattr(item, "submenu")} == {s.id for s in contributions.submenus}


def test_one_reader_asks_for_what_it_can_read(manifest: PluginManifest) -> None:
    (reader,) = manifest.contributions.readers
    assert {"*.star", "*.cs", "*.mrcs", "*.mrc", "*.map", "*.rec", "*.box"} <= set(reader.filename_patterns)
    assert not any(pattern in ("*", "*.*", "*.gz") for pattern in reader.filename_patterns)


def test_preferences_and_code_have_the_same_defaults_and_every_number_has_bounds(manifest: PluginManifest) -> None:
    found: dict[str, dict[str, object]] = {}
    for section, configuration in manifest.contributions.configurations.items():
        for name, field in configuration.properties.items():
            found.setdefault(section, {})[name] = field.default
            if field.python_type in (int, float):
                assert field.minimum is not None, name
                assert field.maximum is not None, name
                assert field.minimum <= field.default <= field.maximum
    assert found == DEFAULTS


def test_preferences_are_read_from_napari(plugin_settings, npe2pm) -> None:
    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    from napari.settings import get_plugin_settings

    settings = get_plugin_settings(PLUGIN)
    settings.particles.radius = 77.5
    settings.runs.threads = 3
    assert preference("particles", "radius") == 77.5
    assert threads() == 3


@pytest.mark.gui
def test_docks_begin_with_the_preferences(plugin_settings, npe2pm, make_napari_viewer_proxy, tmp_path) -> None:
    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    viewer = make_napari_viewer_proxy()
    from napari.settings import get_plugin_settings

    from napari_pickbias.gui.bias_widget import BiasWidget
    from napari_pickbias.gui.pick_widget import PickWidget

    settings = get_plugin_settings(PLUGIN)
    settings.particles.radius = 77.5
    settings.picking.fdr_percent = 2.0
    settings.runs.folder = str(tmp_path)
    settings.runs.threads = 3
    widget = PickWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Pick")
    widget.paths["micrographs"].setText("/data/mics.star")
    widget.paths["templates"].setText("/data/map.mrc")
    order = widget.order()
    assert (order.parameters.diameter, order.parameters.fdr, order.threads) == (155.0, 0.02, 3)
    assert order.out == tmp_path / "mics_pick"
    widget.form.set("threshold", 5.0)  # what the user gives counts, not what was offered
    assert widget.order().parameters.fdr is None
    settings.picking.fdr_percent = 5.0
    settings.particles.radius = 0.0
    settings.runs.folder = ""
    bias = BiasWidget(viewer)
    viewer.window.add_dock_widget(bias, name="Picks and bias")
    bias.paths["micrographs"].setText("/data/mics.star")
    bias.paths["templates"].setText("/data/map.mrc")
    assert bias.order().parameters == BiasParameters()
    assert str(bias.order().out) == "/data/mics_picks_and_bias"


def test_the_memory_for_micrographs_bounds_what_is_kept(plugin_settings, npe2pm, tmp_path) -> None:
    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    from napari.settings import get_plugin_settings

    paths = [write_mrc(tmp_path / f"{k}.mrc", np.zeros((2048, 2048), np.float32), 1.0) for k in range(2)]
    paths *= 20
    assert MicrographStack(paths).kept == 32  # of 16 MB each
    get_plugin_settings(PLUGIN).runs.memory_mb = 64
    stack = MicrographStack(paths)
    assert stack.kept == 4
    for row in range(0, 12, 2):
        stack[row]
    assert len(stack._cache) <= 4
    stack.close()


def test_without_a_registered_plugin_the_defaults_hold(plugin_settings, npe2pm) -> None:
    assert preference("outliers", "false_keep_percent") == 1.0
    assert threads() >= 1
