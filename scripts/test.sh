#!/bin/sh
# Sets everything up (system packages, .venv-test) and runs all tests on a virtual screen; options go to pytest.
set -eu

cd "$(dirname "$0")/.."
sh scripts/system-packages.sh
sh scripts/environment.sh .venv-test "[test]"

settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
# A real (software) OpenGL on a virtual screen: Qt's "offscreen" platform would draw nothing and pass.
export QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1 NAPARI_CONFIG="$settings/settings.yaml"
export PATH="$PWD/.venv-test/bin:$PATH"

ruff format --check src tests benchmarks
ruff check src tests benchmarks
mypy
xvfb-run -a -s '-screen 0 1600x1200x24 +extension GLX' python -m pytest "$@"
