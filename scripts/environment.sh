#!/bin/sh
# Makes or refreshes the virtual environment of this checkout: environment.sh FOLDER EXTRAS [REQUIREMENT...]
# PYTHON chooses the interpreter (default python3).
set -eu

folder=$1
extras=$2
shift 2
cd "$(dirname "$0")/.."
if [ ! -x "$folder/bin/python" ]; then
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Python 3.11 or newer is needed; set PYTHON to one" >&2
        exit 1
    }
    "${PYTHON:-python3}" -m venv "$folder" || {
        rm -rf "$folder"
        echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv" >&2
        exit 1
    }
fi
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extras" "$@"
