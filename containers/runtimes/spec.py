"""What foreshock knows of a program that runs images: facts, and how its command line is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foreshock.containers.launch import ExecRequest, Launch


@dataclass(frozen=True, slots=True)
class Runtime:
    """A container runtime.

    images: what it takes, in words. takes_files: the image is a file or folder of this machine, else a name in the
    runtime's own store; takes_names: a name beside files. can_unpack: an image may be unpacked at each start instead of
    mounted. gpus: kinds of GPU it brings in (nvidia, rocm). compose: the command line of a request; raises ImageError
    for what it cannot do. verify: the command that succeeds for an image that is signed, with the given public key;
    None if there is none.
    """

    name: str
    summary: str
    program: str
    images: str
    takes_files: bool
    can_unpack: bool
    gpus: tuple[str, ...]
    compose: Callable[[ExecRequest], Launch]
    verify: Callable[[str, str | None], tuple[str, ...]] | None
    takes_names: bool = False
