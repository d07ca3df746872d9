#!/usr/bin/env bash
# Makes a local base for the cpu image where no image registry can be reached: Debian 12 with Python 3.11, as a tar.
# usage: base.sh BASE.tar      (about 20 s and 225 MB)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=mirror.sh
. "$here/mirror.sh"
out=${1:?usage: base.sh BASE.tar}
recipe=$(sha256sum <"${BASH_SOURCE[0]}")
if [ -s "$out" ] && [ "$(cat "$out.recipe" 2>/dev/null)" = "$recipe" ]; then exit 0; fi
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing; run $here/tools.sh" >&2; exit 1; }
mkdir -p "$(dirname "$out")"
# Documentation and locales stay out, copyright files stay; the epoch makes two builds of one mirror state equal.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0} mmdebstrap --quiet --format=tar --variant=minbase \
    --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$out.part" "$mirror"
mv "$out.part" "$out"
echo "$recipe" >"$out.recipe"
