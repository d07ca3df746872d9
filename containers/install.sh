#!/usr/bin/env bash
# Everything that an image gets beyond its base. Dockerfile and apptainer.def call the same steps in this order:
#
#   install.sh system VARIANT            system packages (gpu only)
#   install.sh packages VARIANT          the lock file, into a virtual environment
#   install.sh app VARIANT COMMIT BASE   foreshock, djinn, and the record of what this image is
#
# The code lies beside the environment, not in it, so that a changed line of foreshock is a
# small layer on top of gigabytes that stay as they are.
set -euo pipefail
umask 022 # whatever the builder's is: the container's user owns nothing and must read all of it

# Bytecode is written by one step below, never by the tools that happen to run before it: two builds of the same
# inputs then hold the same files, byte for byte.
export PYTHONDONTWRITEBYTECODE=1

# Apptainer hands the caller's variables and home directory into a build; Docker does not. Neither is to matter.
for name in "${!PYTHON@}" "${!PIP_@}" "${!UV_@}" "${!VIRTUAL_ENV@}" "${!CONDA@}"; do
    [ "$name" = PYTHONDONTWRITEBYTECODE ] || unset "$name"
done
export PYTHONNOUSERSITE=1 PYTHONHASHSEED=0 LC_ALL=C.UTF-8 HOME=/nonexistent

prefix=/usr/local/foreshock
step=${1:?usage: install.sh system|packages|app VARIANT [COMMIT BASE]}
variant=${2:?usage: install.sh $step cpu|gpu}
case $variant in
    cpu | gpu | test) ;;
    *) echo "install.sh: unknown image '$variant'; valid: cpu, gpu, test" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$prefix/venv/bin/python
tools=/usr/local/foreshock-build/tools
# Locks name the hashes of every platform's wheels: x86-64 and aarch64 resolve to the same packages.
lock=$here/locks/$variant.txt
# Mount points that every base has, so that mounting leaves no trace: a folder of wheels, a checkout of djinn.
wheels=/mnt djinn_source=/srv

# pip in an environment of its own: the image needs no installer.
pip() {
    if [ ! -x "$tools/bin/pip" ]; then python3 -m venv "$tools"; fi
    if [ -f "$here/pip.conf" ]; then export PIP_CONFIG_FILE=$here/pip.conf; fi
    "$tools/bin/pip" --python "$python" --no-cache-dir --disable-pip-version-check "$@"
}

# Bytecode once, at build time: the running image is read-only. The hash mode keeps time stamps out of the files.
# Some packages carry a file for a newer Python, which is no reason to fail, and some a doubtful line.
bytecode() { PYTHONWARNINGS=ignore "$python" -m compileall -q -q -j 0 --invalidation-mode unchecked-hash "$@" || true; }

system_step() {
    if [ "$variant" = gpu ]; then
        # Compilers stay on purpose: Triton, TorchInductor and FlashInfer compile when a model is first loaded.
        local packages
        read -ra packages < <(sed -n 's/^packages = \[\(.*\)\]$/\1/p' "$here/pins.toml" | tr -d '",')
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
        apt-get clean
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
    fi
    command -v python3 >/dev/null || {
        echo "install.sh: the base image has no python3; choose a base with Python and its venv module" >&2
        exit 1
    }
    # A place to work in for any user id, since the container's user owns nothing else.
    mkdir -p "$prefix" /data
    chmod 1777 /data
}

packages_step() {
    local wanted have
    wanted=$(sed -n '1s/.*Python \([0-9.]*\),.*/\1/p' "$lock")
    have=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$have" != "$wanted" ]; then
        echo "install.sh: ${lock##*/} is for Python $wanted, the base image has $have; use another base" >&2
        exit 1
    fi
    [ -x "$python" ] || python3 -m venv --without-pip "$prefix/venv"
    local source=()
    # A mounted folder of wheels stands in for the index, and then nothing else is asked.
    if compgen -G "$wheels/*.whl" >/dev/null; then source=(--no-index --find-links "$wheels"); fi
    if [ "$variant" = cpu ] && [ ${#source[@]} = 0 ] && [ ! -f "$here/pip.conf" ] && [ ! -f /etc/pip.conf ]; then
        cpu_torch
    fi
    pip install --quiet --no-compile --no-deps --require-hashes --only-binary :all: "${source[@]}" -r "$lock"
    [ "$variant" = test ] || pip check
    if [ "$variant" = cpu ]; then trim; fi
    if [ "$variant" = gpu ]; then cuda_toolkit; fi
    echo "$prefix/app/site" >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/foreshock-app.pth"
    bytecode "$prefix/venv/lib"
    rm -rf "$tools"
}

# The index that everyone has serves torch's CUDA build under the same version number. uv knows PyTorch's own index of CPU
# builds; the lock's hash decides what is accepted, as everywhere. pip then finds torch installed.
cpu_torch() {
    local wanted=$tools/torch.txt
    pip --version >/dev/null # makes $tools
    sed -n '/^\[python\]/,/^\[common\]/p' "$here/pins.toml" | tr '\n' ' ' |
        sed -E 's/.*uv = "([^"]+)".*uv_sha256 = \[([^]]+)\].*/uv==\1 \2/; s/[",]+/ /g; s/ ([0-9a-f]{64})/ --hash=sha256:\1/g' \
            >"$tools/uv.txt"
    "$tools/bin/pip" --no-cache-dir --disable-pip-version-check install --quiet --require-hashes --only-binary :all: \
        -r "$tools/uv.txt"
    sed -n '/^torch==/,$p' "$lock" >"$wanted"
    "$tools/bin/uv" pip install --quiet --no-config --no-cache --python "$python" --no-deps --require-hashes \
        --only-binary :all: --torch-backend cpu -r "$wanted"
}

# The cpu image has no compiler, so headers serve nobody; test suites of libraries are a tenth of the image.
trim() {
    local site
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rm -rf "$site"/torch/include "$site"/torch/share/cmake "$site"/torch/test "$site"/pyarrow/include "$site"/pyarrow/tests
    rm -f "$site"/torch/bin/test_* "$site"/pyarrow/*.pyx "$site"/pyarrow/*.pxi
    for package in pandas scipy sklearn sympy networkx; do
        find "$site/$package" -depth -type d -name tests -exec rm -rf {} +
    done
}

# nvcc, its headers and CUDA's libraries are wheels of the lock; what compiles with them looks for a toolkit's layout.
cuda_toolkit() {
    local cuda library
    cuda=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
    [ -x "$cuda/bin/nvcc" ] || { echo "install.sh: the lock brought no nvcc ($cuda/bin/nvcc)" >&2; exit 1; }
    ln -sfn "${cuda#"$prefix/venv/"}" "$prefix/venv/cuda"
    ln -sfn lib "$cuda/lib64"
    for library in "$cuda"/lib/lib*.so.*; do
        [ -e "${library%%.so.*}.so" ] || ln -s "${library##*/}" "${library%%.so.*}.so"
    done
}

app_step() {
    local commit=${1:?usage: install.sh app VARIANT COMMIT BASE} base=${2:?usage: install.sh app VARIANT COMMIT BASE}
    local site=$prefix/app/site djinn=absent
    rm -rf "$here"/../src/*.egg-info "$here"/../build
    mkdir -p "$site" "$prefix/app/bin" "$prefix/image"
    pip install --quiet --no-compile --no-deps --no-build-isolation --target "$site" "$here/.."
    # djinn is MIT code at one commit. Its own requirements (vllm, trl, dspy...) are for authoring problems; verifying
    # needs none of them, so it comes without.
    if [ -f "$djinn_source/pyproject.toml" ]; then
        cp -r "$djinn_source" "$tools/djinn"
        pip install --quiet --no-compile --no-deps --no-build-isolation --target "$site" "$tools/djinn"
        djinn=$(sed -n '/^\[djinn\]/,/^\[/ s/^commit = "\(.*\)"$/\1/p' "$here/pins.toml")
    fi
    mv "$site"/bin/foreshock "$prefix/app/bin/"
    install -m 755 "$here/enter.sh" "$prefix/app/bin/foreshock-enter"
    rm -rf "${site:?}/bin" "$site"/*.dist-info/direct_url.json
    bytecode "$site"
    cp "$here/pins.toml" "$prefix/image/"
    cp "$lock" "$prefix/image/$variant.txt"
    "$python" - "$variant" "$commit" "$base" "$djinn" "$prefix/image" <<'PY'
import hashlib, json, pathlib, sys
variant, commit, base, djinn, folder = sys.argv[1:]
folder = pathlib.Path(folder)
lock = hashlib.sha256((folder / f"{variant}.txt").read_bytes()).hexdigest()
record = {"variant": variant, "git_commit": commit, "base": base, "djinn_commit": djinn, "lock_sha256": lock}
record["djinn_commit"] = None if djinn == "absent" else djinn
(folder / "image.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
PY
    rm -rf "$tools"
    # Last, since they tell what is there: the list of all files with its digest, and the bill of materials.
    "$python" -m foreshock.image_contents write
    "$python" -m foreshock.containers.sbom
}

case $step in
    system) system_step ;;
    packages) packages_step ;;
    app) app_step "${@:3}" ;;
    *) echo "install.sh: unknown step '$step'; valid: system, packages, app" >&2; exit 2 ;;
esac
