#!/usr/bin/env bash
# Downloads the packages of one image into a folder, so that the image builds with no network at all.
# usage: wheelhouse.sh cpu|gpu|test FOLDER [PYTHON] [x86_64|aarch64]
#
# pip's own configuration decides where they come from; the locks' hashes decide what is accepted. PYTHON must be
# able to ask for the image's Python version: any Python with pip will do, since only wheels are fetched.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
variant=${1:?usage: wheelhouse.sh cpu|gpu|test FOLDER [PYTHON]}
folder=${2:?usage: wheelhouse.sh cpu|gpu|test FOLDER [PYTHON]}
python=${3:-python3}
machine=${4:-$(uname -m)}
lock=$here/../locks/$variant.txt
[ -f "$lock" ] || { echo "unknown image '$variant'; valid: cpu, gpu, test" >&2; exit 2; }
# Its first line: # Packages of the gpu image, Python 3.12, x86_64-manylinux_2_39.
read -r version glibc < <(sed -nE '1s/.*Python ([0-9.]+), x86_64-manylinux_2_([0-9]+).*/\1 \2/p' "$lock")
platforms=()
for minor in $(seq "$glibc" -1 5); do platforms+=(--platform "manylinux_2_${minor}_$machine"); done
platforms+=(--platform "manylinux2014_$machine")
[ "$machine" = aarch64 ] || platforms+=(--platform manylinux1_x86_64)
mkdir -p "$folder"
"$python" -m pip download --quiet --no-deps --require-hashes --only-binary :all: --python-version "$version" \
    --implementation cp --abi "cp${version/./}" --abi abi3 --abi none "${platforms[@]}" \
    --find-links "$folder" --dest "$folder" --requirement "$lock"
