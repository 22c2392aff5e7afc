#!/bin/sh
# Sets everything up (system packages, .venv-test, .venv-test4, .venv-pyside) and runs all tests on a virtual screen;
# options go to pytest.
set -eu

cd "$(dirname "$0")/.."
sh scripts/system-packages.sh
sh scripts/environment.sh .venv-test "[test]"
# The 4.x client of CryoSPARC cannot be installed beside the 5.x one.
sh scripts/environment.sh .venv-test4 "" "cryosparc-tools~=4.7.0" "pytest>=8.3"
# The other Qt binding goes before .venv-test, whose napari and the rest need not be installed twice.
[ -d .venv-pyside/PySide6 ] || .venv-test/bin/python -m pip install --quiet --disable-pip-version-check \
    --target .venv-pyside "PySide6-Essentials>=6.7,!=6.11.0,!=6.11.1"

settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
# A real (software) OpenGL on a virtual screen: Qt's "offscreen" platform would draw nothing and pass.
export QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1 NAPARI_CONFIG="$settings/settings.yaml"
export PATH="$PWD/.venv-test/bin:$PATH"

ruff format --check src tests benchmarks
ruff check src tests benchmarks
mypy
npe2 validate --imports napari-pickbias
.venv-test4/bin/python -m pytest -q tests/interop/test_cryosparc_v4.py
PYTHONPATH=.venv-pyside QT_API=pyside6 xvfb-run -a -s '-screen 0 1600x1200x24 +extension GLX' \
    python -m pytest -q tests/gui/test_pyside6.py
xvfb-run -a -s '-screen 0 1600x1200x24 +extension GLX' python -m pytest "$@"
