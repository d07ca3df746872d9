#!/usr/bin/env bash
# Makes an ordinary user for unprivileged builds, with the subordinate ids that user namespaces need. Idempotent.
# usage: user.sh NAME
set -euo pipefail
name=${1:?usage: user.sh NAME}
id -u "$name" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name"
for file in /etc/subuid /etc/subgid; do
    grep -q "^$name:" "$file" 2>/dev/null && continue
    # The next free range: the highest end so far, or 100000.
    start=$(awk -F: 'BEGIN { m = 100000 } { e = $2 + $3; if (e > m) m = e } END { print m }' "$file" 2>/dev/null || echo 100000)
    echo "$name:$start:65536" >>"$file"
done
