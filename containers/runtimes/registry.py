"""Every container runtime by name: foreshock's own, and those that packages add (docs/decisions/0014)."""

from __future__ import annotations

from foreshock.containers.runtimes.spec import Runtime
from foreshock.plugins import Registry

_HERE = "foreshock.containers.runtimes"

RUNTIMES: Registry[Runtime] = Registry(
    noun="container runtime",
    group="foreshock.runtimes",
    kind=f"{_HERE}.spec:Runtime",
    own={
        "apptainer": f"{_HERE}.apptainer:APPTAINER",
        "singularity": f"{_HERE}.apptainer:SINGULARITY",
        "podman": f"{_HERE}.podman:PODMAN",
        "podman-hpc": f"{_HERE}.podman:PODMAN_HPC",
        "pyxis": f"{_HERE}.pyxis:PYXIS",
    },
)
