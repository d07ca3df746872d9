#!/usr/bin/env bash
# What only a GPU node can show of the gpu image. Needs Apptainer, foreshock and one NVIDIA GPU; about 15 minutes.
# usage: gpu-node.sh foreshock-gpu.sif [FOLDER]
#
# Expected output (versions of card and driver are the node's), and exit code 0:
#
#   == the self-test, a GPU required
#   ok      python    3.12, pinned 3.12
#   ok      versions  217 packages as locked (sha256:...)
#   ok      cuda      1 visible: NVIDIA H200
#   ok      driver    580.95.05, CUDA 13.0 needs 580.65.06
#   ok      vllm      0.32.0 imports
#   ok      compiler  C with Python.h, C++ and CUDA to PTX and to a linked library
#   ok      ...       slurm, user, scratch, offline, contents, sandbox (djinn: ok or skipped)
#   == FlashInfer, by vLLM's own test
#   True
#   == a model on the card, compiled: TorchInductor and Triton write and load kernels
#   512.0
#   == a sweep on the card, and what its shards say of it
#   NVIDIA H200, driver 580.95.05, torch 2.13.0..., vllm 0.32.0, content-sha256:...
#   == the same worker without the card stops
#   error: this worker was planned for 1 GPU and sees none on NODE: no driver is visible
#   == all of it held
#
# On a node whose driver is older than 580.65.06 (data centre cards only), before it:
#   export APPTAINERENV_VLLM_ENABLE_CUDA_COMPATIBILITY=1
# and the driver's line reads: ok  driver  550.54.15, through CUDA 13.0's forward compatibility libraries
set -euo pipefail
image=$(realpath "${1:?usage: gpu-node.sh foreshock-gpu.sif [FOLDER]}")
folder=$(realpath -m "${2:-foreshock-gpu-node}")
mkdir -p "$folder"
inside() { apptainer exec --cleanenv --no-home --bind "$folder" --bind "$image" "$@"; }
export APPTAINERENV_FORESHOCK_IMAGE_FILE=$image

echo "== the self-test, a GPU required"
foreshock image check "$image" --gpu required

echo "== FlashInfer, by vLLM's own test"
inside --nv "$image" python -c \
    "from vllm.utils.flashinfer import has_flashinfer; print(has_flashinfer()); raise SystemExit(not has_flashinfer())"

echo "== a model on the card, compiled: TorchInductor and Triton write and load kernels"
inside --nv "$image" python -c "
import torch
twice = torch.compile(lambda x: (x @ x).relu().sum())
print(float(twice(torch.ones(8, 8, device='cuda'))))"

echo "== a sweep on the card, and what its shards say of it"
inside --nv --pwd "$folder" "$image" foreshock demo --output "$folder/demo"
inside "$image" python - "$folder/demo" <<'PY'
import json, pathlib, sys
records = [json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob("**/ran/*.json")]
assert records, "no shard says what computed it"
for ran in records:
    assert ran["gpus"], f"computed without a GPU: {ran}"
    assert ran["image"]["file_sha256"] and ran["image"]["content"], ran["image"]
ran = records[0]
print(f"{ran['gpus'][0]}, driver {ran['driver']}, torch {ran['packages']['torch']}, vllm {ran['packages']['vllm']}, "
      f"{ran['image']['content']}")
PY

echo "== the same worker without the card stops"
run=$(find "$folder/demo" -name plan.json -printf '%h\n' | head -n 1)
code=0
said=$(inside "$image" python -m foreshock.jobs "$run" --pack 0 --task 0 --gpus 1 2>&1) || code=$?
echo "$said" | grep -m 1 "sees none"
[ "$code" != 0 ]
echo "== all of it held"
