#!/usr/bin/env bash
# Checks out djinn at the pinned commit, for `foreshock image build --djinn FOLDER`. Idempotent.
# usage: djinn.sh FOLDER [REPOSITORY]     REPOSITORY: another URL or a local clone, when the public one is out of reach
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:?usage: djinn.sh FOLDER [REPOSITORY]}
value() { sed -n "/^\[djinn\]/,/^\[cpu\]/ s/^$1 = \"\(.*\)\"\$/\1/p" "$here/../pins.toml"; }
commit=$(value commit)
repository=${2:-$(value repository)}
if [ -f "$folder/.commit" ] && [ "$(cat "$folder/.commit")" = "$commit" ]; then exit 0; fi
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet --bare "$repository" "$clone/djinn.git" || {
    echo "cannot clone $repository; give a local clone: $0 $folder CLONE" >&2
    exit 1
}
mkdir -p "$folder"
# git verifies the commit's content by its name; an archive leaves the history and the problems submodule out.
git -C "$clone/djinn.git" archive "$commit" pyproject.toml README.md djinn | tar -x -C "$folder"
echo "$commit" >"$folder/.commit"
