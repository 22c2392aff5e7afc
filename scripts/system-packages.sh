#!/bin/sh
# Installs the Debian packages that the tests need: a virtual screen with software OpenGL for napari, and RELION.
# Does nothing where they are there already; says what to install where it may not install itself.
set -eu

packages="python3-venv xvfb xauth libgl1 libegl1 libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon-x11-0
libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libxcb-xkb1 relion"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1; then
    sudo="sudo"
else
    echo "please let an administrator run: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing system packages:$missing"
# shellcheck disable=SC2086  # the lists are meant to be split
$sudo apt-get -qq update
$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
