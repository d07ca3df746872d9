#!/usr/bin/env bash
# The gpu image's own steps where neither its base nor a GPU is to be had: on Debian 13 in place of Ubuntu 24.04, so
# with that Python in place of 3.12, the same 217 packages by the same hashes, and then the image's self-test in it.
# usage: gpu-steps.sh FOLDER      (as root; about 16 GB, 4 GB of downloads, 10 to 20 minutes; FOLDER/root can go afterwards)
#
# Expected: "10 ok, 0 failed, 3 skipped" (no card, no driver, no djinn), FlashInfer True, and exit code 0.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(realpath -m "${1:?usage: gpu-steps.sh FOLDER}")
# shellcheck source=mirror.sh
. "$here/mirror.sh"
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing; run $here/tools.sh" >&2; exit 1; }
root=$folder/root
build=$root/usr/local/foreshock-build
rm -rf --one-file-system "$root"
mkdir -p "$folder"

echo "== a base: Debian 13 with its Python"
mmdebstrap --quiet --format=directory --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$root" "$mirror"
[ ! -e /etc/resolv.conf ] || cp /etc/resolv.conf "$root/etc/"
python=$(basename "$(readlink -f "$root/usr/bin/python3")")
python=${python#python}
mkdir -p "$build"
git -C "$here/../.." archive HEAD | tar x -C "$build"
sed -i "1s/Python [0-9.]*,/Python $python,/" "$build/containers/locks/gpu.txt"
sed -i "/^\\[gpu\\]/,/^\\[/ s/^python = .*/python = \"$python\"/" "$build/containers/pins.toml"

echo "== the wheels of locks/gpu.txt for Python $python"
"$build/containers/ci/wheelhouse.sh" gpu "$folder/wheels"

# In a mount namespace with a root of its own: in a plain chroot the kernel refuses the sandbox its namespaces.
inside() {
    # shellcheck disable=SC2016  # the inner shell's
    unshare --mount --propagation private bash -euc '
        mount --bind "$1" "$1" && cd "$1" && mkdir -p .old
        mount --rbind /proc proc && mount --rbind /dev dev && mount --bind "$2" mnt
        pivot_root . .old && umount -l /.old && shift 2 && exec "$@"' inside "$root" "$folder/wheels" "$@"
}
for step in system packages "app gpu"; do
    echo "== install.sh ${step%% *}"
    if [ "$step" = "app gpu" ]; then
        inside /usr/local/foreshock-build/containers/install.sh app gpu "$(git -C "$here/../.." rev-parse HEAD)" debian-13
    else
        inside /usr/local/foreshock-build/containers/install.sh "$step" gpu
    fi
done
rm -rf "$build"

as_user() {
    inside setpriv --reuid 1000 --regid 1000 --clear-groups env -i "${settings[@]}" \
        /usr/local/foreshock/app/bin/foreshock-enter "$@"
}
mapfile -t settings < <(sed -n '/^FROM cuda-runtime AS cuda$/,/^USER/p' "$here/../../Dockerfile" |
    sed -E '/^(FROM|USER)/d; s/^(ENV)? +//; s/ \\$//')

echo "== the self-test, as the image's user"
as_user python -m foreshock.containers.selftest
echo "== FlashInfer, by vLLM's own test"
as_user python -c \
    "from vllm.utils.flashinfer import has_flashinfer; print(has_flashinfer()); raise SystemExit(not has_flashinfer())"
