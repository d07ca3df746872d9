"""Compiling, as vLLM, Triton, TorchInductor and FlashInfer do while a model loads: C, C++ and CUDA."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCES = {
    "probe.c": "#include <Python.h>\nint main(void) { return 0; }\n",
    "probe.cpp": '#include <vector>\nextern "C" int probe() { return (int) std::vector<int>(3).size(); }\n',
    "probe.cu": "#include <cuda_runtime.h>\n#include <cuda_fp16.h>\n"
    "__global__ void twice(float *x) { x[threadIdx.x] *= 2.0f; }\n"
    'extern "C" int probe(float *x) { twice<<<1, 32>>>(x); return (int) cudaGetLastError(); }\n',
}


def compile_all(folder: Path, python_headers: str, environment: Mapping[str, str]) -> list[str]:
    """Compile a small source of each kind in `folder`; what failed, one phrase each. `environment` holds CUDA_HOME."""
    for name, text in _SOURCES.items():
        (folder / name).write_text(text, encoding="utf-8")
    cuda = environment.get("CUDA_HOME")
    if not cuda:
        return ["CUDA_HOME is not set"]
    steps = {
        "C": ["gcc", f"-I{python_headers}", "-c", "probe.c", "-o", "probe.o"],
        "C++": ["g++", "-shared", "-fPIC", "probe.cpp", "-o", "libprobe.so"],
        "CUDA to PTX": ["nvcc", "-ptx", "-arch=sm_90", "probe.cu", "-o", "probe.ptx"],
        "CUDA to a library": [
            *("nvcc", "-shared", "-Xcompiler", "-fPIC", "-arch=sm_90", "-cudart", "shared"),
            *(f"-L{cuda}/lib64", "probe.cu", "-o", "libcuda_probe.so"),
        ],
    }
    problems = []
    for what, argv in steps.items():
        try:
            done = subprocess.run(
                argv, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=300, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append(f"{what}: {argv[0]}: {error.strerror if isinstance(error, OSError) else 'no end'}")
            continue
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            problems.append(f"{what}: {said[-1] if said else f'{argv[0]} failed'}")
    return problems
