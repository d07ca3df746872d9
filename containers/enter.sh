#!/bin/sh
# The entry point of the Docker images: caches and home in a folder of this container's own, then the command.
#
# A fixed folder in /tmp could be somebody else's where a runtime shares the host's /tmp. What the launcher sets stays.
scratch=${FORESHOCK_SCRATCH:-$(mktemp -d "${TMPDIR:-/tmp}/foreshock-XXXXXXXX")} || exit 1
mkdir -p "$scratch/home" || exit 1
if [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; then HOME=$scratch/home; fi
: "${XDG_CACHE_HOME:=$scratch/cache}" "${HF_HOME:=$scratch/cache/huggingface}"
: "${VLLM_CACHE_ROOT:=$scratch/cache/vllm}" "${TRITON_CACHE_DIR:=$scratch/cache/triton}"
: "${TORCHINDUCTOR_CACHE_DIR:=$scratch/cache/torchinductor}" "${FLASHINFER_WORKSPACE_BASE:=$scratch/cache}"
: "${NUMBA_CACHE_DIR:=$scratch/cache/numba}" "${MPLCONFIGDIR:=$scratch/cache/matplotlib}"
export HOME XDG_CACHE_HOME HF_HOME VLLM_CACHE_ROOT TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR FLASHINFER_WORKSPACE_BASE
export NUMBA_CACHE_DIR MPLCONFIGDIR
exec "$@"
