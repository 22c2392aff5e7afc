#!/bin/sh
# Sets everything up in .venv and runs the main job on data made on the spot; options go to `pickbias demo`.
set -eu

cd "$(dirname "$0")/.."
if [ ! -x .venv/bin/python ] && ! "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null; then
    # A bare Debian has Python without its venv module.
    if [ "$(id -u)" = 0 ]; then apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
    else echo "please install python3-venv first: sudo apt-get install python3-venv" >&2; exit 1; fi
fi
sh scripts/environment.sh .venv ""
exec .venv/bin/pickbias demo --out demo --overwrite "$@"
