#!/usr/bin/env python3
"""Stands in for podman, podman-hpc and srun with pyxis: reads their command line as they do, runs the command here.

It refuses options that it does not know, hands in no variable that was not asked for, passes signals on, and notes
every call beside itself. Installed by a test under the program's name, run by the system's own interpreter.
"""

import fnmatch
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent
PODMAN_FLAGS = {"--rm", "--replace", "--init", "--gpu"}
PODMAN_VALUES = {
    "--name", "--userns", "--pull", "--security-opt", "--network", "--device", "--env", "--volume", "--workdir",
    "--entrypoint", "--group-add",
}  # fmt: skip
SRUN_FLAGS = {"--overlap", "--quiet", "--no-container-mount-home", "--no-container-entrypoint"}
SRUN_VALUES = {
    "--ntasks", "--nodes", "--cpus-per-task", "--kill-on-bad-exit", "--export", "--container-env", "--container-image",
    "--container-mounts", "--container-workdir",
}  # fmt: skip


def note(**call):
    """Append a call to the log."""
    with (HERE / "calls.jsonl").open("a") as log:
        log.write(json.dumps(call) + "\n")


def refuse(text):
    """Leave as the program does for a wrong command line."""
    sys.exit(f"fake {Path(sys.argv[0]).name}: {text}")


def podman(words):
    """What `podman run` is told: image, command, volumes, names of variables, working directory."""
    volumes, names, folder = [], [], None
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in PODMAN_FLAGS:
            continue
        if option not in PODMAN_VALUES:
            refuse(f"unknown flag {option}")
        value = words.pop(0)
        if option == "--volume":
            volumes.append(value)
        elif option == "--env":
            names.append(value)
        elif option == "--workdir":
            folder = value
    return words[0], words[1:], volumes, names, folder


def srun(words):
    """The same of `srun` with pyxis."""
    given = {}
    while words and words[0].startswith("--"):
        option, equals, value = words.pop(0).partition("=")
        if option not in (SRUN_VALUES if equals else SRUN_FLAGS):
            refuse(f"unrecognized option {option}")
        given[option] = value
    if given["--export"] != given["--container-env"]:
        refuse("the image's own values would win over what is exported")
    names = [*given["--export"].split(","), "SLURM_*"]
    mounts = given["--container-mounts"].split(",")
    return given["--container-image"], words, mounts, names, given["--container-workdir"]


def main():
    """Note the call, run the command in the environment that it asks for."""
    program, words = Path(sys.argv[0]).name, sys.argv[1:]
    if program.startswith("podman") and words[0] != "run":
        note(program=program, other=words)
        if words[:2] == ["image", "inspect"]:
            print("f00d" * 16)
        return 0
    image, command, mounts, names, folder = podman(words[1:]) if program.startswith("podman") else srun(words)
    inside = {
        name: value for name, value in os.environ.items() if any(fnmatch.fnmatchcase(name, wanted) for wanted in names)
    }
    sources = [mount.split(":")[0] for mount in mounts]
    for word in (folder, *command[1:]):
        if word.startswith("/") and not any(word == source or word.startswith(f"{source}/") for source in sources):
            refuse(f"{word} is not mounted")
    note(program=program, image=image, mounts=mounts, environment=sorted(inside), folder=folder)
    inside["PATH"] = "/usr/bin:/bin"  # the image's
    child = subprocess.Popen(command, env=inside, cwd=folder)
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
