#!/usr/bin/env bash
# Installs the image builders on a Debian machine: buildah, podman, mmdebstrap and Apptainer. Idempotent. Needs root.
#
# Debian 12 has no Apptainer package: apptainer.sh takes the one in Debian sid, with a private C library.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

packages=(buildah podman mmdebstrap patchelf uidmap squashfs-tools squashfuse fuse2fs fuse-overlayfs fakeroot)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get -o DPkg::Lock::Timeout=300 update -q
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}"
fi

if ! command -v apptainer >/dev/null && ! command -v singularity >/dev/null; then
    "$here/apptainer.sh"
fi

for tool in buildah podman mmdebstrap apptainer; do
    command -v "$tool" >/dev/null || { echo "$tool is still missing after installation" >&2; exit 1; }
done
