"""What goes wrong with images, each with the next step. Builders' own messages name neither the cause nor the cure.

The builder's output is kept and shown as it is; this module only adds one line that says what to do, and adds nothing
when it does not recognise the output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from foreshock.errors import ForeshockError


class ImageError(ForeshockError):
    """An image cannot be built, run or identified. The message ends with the next step."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """A pattern in a builder's output, what it means and what to do. `{base}` in `advice` is the base image."""

    pattern: re.Pattern[str]
    meaning: str
    advice: str


def _symptom(pattern: str, meaning: str, advice: str) -> Symptom:
    return Symptom(re.compile(pattern, re.IGNORECASE), meaning, advice)


# Order matters: the first match wins, so causes come before their consequences.
SYMPTOMS: tuple[Symptom, ...] = (
    _symptom(
        r"no space left on device|disk quota exceeded|\bENOSPC\b|write error: .*full",
        "the disk is full",
        "free space, or point TMPDIR, APPTAINER_TMPDIR and APPTAINER_CACHEDIR at a larger disk and build again",
    ),
    _symptom(
        r"DO NOT MATCH THE HASHES|hashes are required|No matching distribution found for torch",
        "a package on offer is not the one in the lock; for torch in the cpu image this means that only the CUDA "
        "build of the same version was found",
        "give the CPU wheels as a folder (--wheels; containers/ci/wheelhouse.sh fills one) or an index in --pip-config",
    ),
    _symptom(
        r"No matching distribution found|Could not find a version that satisfies|CERTIFICATE_VERIFY_FAILED"
        r"|Failed to establish a new connection|NewConnectionError|ReadTimeoutError|error sending request for url",
        "the build cannot reach a package index",
        "download the packages first (containers/ci/wheelhouse.sh VARIANT FOLDER) and give --wheels FOLDER, or give "
        "your index and certificate in --pip-config FILE",
    ),
    _symptom(
        r"short-name .* did not resolve|unqualified-search registries|repository name must be canonical",
        "this builder knows no registry for the short name {base}",
        "give the full name, registry included, with --base NAME@sha256:DIGEST, or a local one with --base TAR",
    ),
    _symptom(
        r"unable to find image .* locally|No such image|image not known|does not resolve to an image ID"
        r"|locating image with",
        "there is no such image here",
        "podman images (docker, buildah) lists those that are; fetch it, or build one: foreshock image build",
    ),
    _symptom(
        r"image format not recognized",
        "this file is none that Apptainer runs",
        "give a .sif file, a sandbox folder, or the name of an OCI image",
    ),
    _symptom(
        r"manifest unknown|manifest for .* not found|name unknown|pull access denied"
        r"|requested access to the resource is denied|error 404",
        "the base image {base} does not exist in the registry",
        "check the digest in containers/pins.toml, or give a local base: --base TAR (made by containers/ci/base.sh)",
    ),
    _symptom(
        r"dial tcp|no such host|pinging container registry|i/o timeout|TLS handshake timeout|connection refused"
        r"|network is unreachable|unexpected status from (HEAD|GET) request",
        "the registry of the base image {base} cannot be reached",
        "build on a local base: --base TAR or FOLDER (containers/ci/base.sh makes one)",
    ),
    _symptom(
        r"/etc/sub[ug]id|no subuid ranges|no subgid ranges|newuidmap|newgidmap|potentially insufficient UIDs"
        r"|fakeroot requires .*mapping",
        "this user has no subordinate ids, which an unprivileged build needs",
        "ask an administrator for: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
    ),
    _symptom(
        r"user namespaces? (is|are) (not|disabled)|max_user_namespaces|CLONE_NEWUSER|unprivileged_userns"
        r"|create namespace: user|unshare.*operation not permitted",
        "user namespaces are switched off on this machine",
        "build where they are on (sysctl user.max_user_namespaces), or use an Apptainer installed with setuid",
    ),
    _symptom(
        r"/dev/fuse|squashfuse|fusermount|fuse: |fuse-overlayfs.*(not found|failed)",
        "FUSE does not work here, so the image file cannot be mounted",
        "run it unpacked: --unpack, or make a folder once with: apptainer build --sandbox FOLDER IMAGE.sif",
    ),
    _symptom(
        r"setrlimit .*operation not permitted|CAP_SYS_RESOURCE",
        "this machine's root may not raise limits, so container runtimes refuse to start as root",
        "run as an ordinary user (containers/ci/user.sh makes one), or build with buildah",
    ),
    _symptom(
        r"requesting capability set 0x",
        "Apptainer, run as root, wants every capability, and this root lacks some (in a container it often does)",
        "build as an ordinary user (containers/ci/user.sh makes one), or an OCI image: --kind oci --engine buildah",
    ),
    _symptom(
        r"cgroups? in hybrid mode|cannot set --network other than host",
        "this machine cannot give a container its own control group or network",
        "use --engine buildah for builds and checks",
    ),
    _symptom(
        r"cannot connect to the docker daemon|docker\.sock|is the docker daemon running",
        "docker's client is here but its daemon is not",
        "start the daemon, or use --engine podman, buildah or apptainer",
    ),
)


def explain(output: str, base: str = "") -> str | None:
    """The meaning and the next step for a builder's output, in one sentence; None when it is not recognised."""
    for symptom in SYMPTOMS:
        if symptom.pattern.search(output):
            return f"{symptom.meaning.format(base=base)}; next: {symptom.advice}"
    return None
