#!/usr/bin/env bash
# Installs Apptainer on a Debian release that lacks it, from Debian sid, without touching the system's C library.
#
# The two binaries get sid's libc and libraries from a private folder through their ELF interpreter and rpath.
# For test machines; a cluster's administrators install Apptainer's own packages.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=mirror.sh
. "$here/mirror.sh"

prefix=/usr/local/lib/foreshock-apptainer
libexec=/usr/lib/x86_64-linux-gnu/apptainer
if command -v apptainer >/dev/null && apptainer --version >/dev/null 2>&1; then
    exit 0
fi
[ "$(id -u)" = 0 ] || { echo "apptainer.sh installs into /usr and needs root" >&2; exit 1; }
command -v patchelf >/dev/null || { echo "patchelf is missing; run tools.sh beside this script" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{etc/parts,state/lists/partial,cache/archives/partial,etc,debs,tree}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror sid main" >"$work/etc/sources.list"
apt=(apt-get -q -o "Dir::Etc=$work/etc" -o "Dir::Etc::sourcelist=$work/etc/sources.list" -o "Dir::Etc::sourceparts=$work/etc/parts"
    -o "Dir::Etc::preferencesparts=$work/etc/parts" -o "Dir::State=$work/state" -o "Dir::Cache=$work/cache"
    -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work/debs" && "${apt[@]}" download apptainer libc6 libseccomp2 libsqlite3-0)
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/tree"; done

rm -rf "$prefix"
mkdir -p "$prefix/lib" "$libexec/bin" /etc/apptainer /var/lib/apptainer/mnt/session
# sid's packages are spread over lib and usr/lib; one flat folder is enough for two binaries.
find "$work/tree" -path '*/x86_64-linux-gnu/*' \( -name '*.so' -o -name '*.so.*' \) -not -path '*/apptainer/*' \
    -exec cp -a -t "$prefix/lib" {} +
cp -a "$work/tree$libexec/." "$libexec/"
cp -a "$work/tree/etc/apptainer/." /etc/apptainer/
install -m 755 "$work/tree/usr/bin/apptainer" /usr/bin/apptainer
ln -sf apptainer /usr/bin/singularity
for binary in /usr/bin/apptainer "$libexec/bin/starter"; do
    patchelf --set-interpreter "$prefix/lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$prefix/lib" "$binary"
done
[ ! -e /dev/fuse ] || chmod 666 /dev/fuse
apptainer --version
