"""What a pack's Slurm jobs run: workers and the finishing step, on the node itself or inside an image.

Everything a job needs is resolved when it is submitted and journaled with the submission (profiles included), so a
submission that was interrupted, or the last job of a run, rebuilds the very same scripts without the files that the
user may have edited since.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foreshock.batch.code_version import image_digest
from foreshock.batch.config import RunConfig
from foreshock.batch.executors.slurm_arrays import split_arrays
from foreshock.containers.digest import image_file_digest
from foreshock.containers.launch import Bind, ExecRequest, compose, pass_through_shell
from foreshock.containers.launch import quote as quote_word
from foreshock.jobs.adapters import base_of, hub_cache_of, is_adapter
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.spec import ArrayTask
from foreshock.slurm.commands import SiteLimits
from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program
from foreshock.slurm.journal import Journal, Submission, new_submission
from foreshock.slurm.profile import Profile, load_profile, parse_profile
from foreshock.slurm.submit import Scripts

DEFAULT_PROFILE = "gpu"


def plan_submission(
    pack: int, tasks: Sequence[ArrayTask], config: RunConfig, limits: SiteLimits, rounds_left: int, rows_missing: int
) -> Submission:
    """A journal entry for `tasks`, in arrays that the site accepts. Raises InputError for a bad profile."""
    name = config.execution.profile or DEFAULT_PROFILE
    profile = load_profile(name)
    settings = {
        "profile": profile.model_dump(mode="json"),
        "final_profile": load_profile(profile.final).model_dump(mode="json"),
        "rows_missing": rows_missing,
        "image_digest": workers_image(config),
    }
    return _entry(pack, tasks, limits, name, rounds_left, settings)


def workers_image(config: RunConfig) -> str | None:
    """Digest of the image that a run's workers start in; None outside of images and for one that is not to be seen.

    Of Slurm jobs it is their profile's, of worker processes this process's own, which its launcher passed in.
    """
    if config.execution.cluster != "slurm":
        return image_digest()
    container = load_profile(config.execution.profile or DEFAULT_PROFILE).container
    if container is None or not Path(container.image).exists():
        return None
    return image_file_digest(Path(container.image))


def next_submission(
    earlier: Submission, pack: int, tasks: Sequence[ArrayTask], limits: SiteLimits, rows_missing: int
) -> Submission:
    """A journal entry for what is missing after `earlier`, with its profiles and one round less."""
    settings = earlier.settings | {"rows_missing": rows_missing, "healing": True}
    return _entry(pack, tasks, limits, earlier.profile, earlier.rounds_left - 1, settings)


def _entry(
    pack: int, tasks: Sequence[ArrayTask], limits: SiteLimits, profile: str, rounds_left: int, settings: dict[str, Any]
) -> Submission:
    chunks = split_arrays(tasks, limits.max_array_size, limits.max_submit)
    arrays = [[[task.index for task in element.tasks] for element in chunk.elements] for chunk in chunks]
    return new_submission(pack, arrays, profile, rounds_left, settings)


def make_scripts(layout: RunLayout, plan: PlanFile, submission: Submission) -> Scripts:
    """The scripts of a journal entry."""
    profile = parse_profile(submission.settings["profile"])
    final_profile = parse_profile(submission.settings["final_profile"])
    root = layout.root.absolute()
    pack = str(submission.pack)
    digest = submission.settings.get("image_digest")
    worker = _program(layout, plan, profile, ("-m", "foreshock.jobs", str(root), "--pack", pack), digest)
    finish = _program(layout, plan, final_profile, ("-m", "foreshock.batch.heal", str(root), "--pack", pack), None)
    arrays = tuple(
        ArrayScript(job.name, submission.token, root, submission.pack, worker, job.elements, profile)
        for job in submission.arrays
    )
    final = None if submission.final is None else FinalScript(
        submission.final.name, submission.token, root, submission.pack, finish, next_folder(layout, submission),
        final_profile,
    )  # fmt: skip
    return Scripts(arrays, final)


def next_folder(layout: RunLayout, submission: Submission) -> Path:
    """Where the last job of `submission` writes the scripts of the next round."""
    return Journal(layout.root.absolute()).root / f"after-{submission.token}"


def _program(
    layout: RunLayout, plan: PlanFile, profile: Profile, arguments: tuple[str, ...], digest: str | None
) -> Program:
    image = profile.container
    if image is None:
        return Program.from_argv((profile.python or sys.executable, *arguments))
    models = {spec.checkpoint.path.absolute() for spec in plan.specs}
    bases = {base_of(path) for path in models if is_adapter(path)}
    cached = {base: hub for base in bases if (hub := hub_cache_of(base)) is not None}
    folders = models | {cached[base][1] if base in cached else base for base in bases}
    cache = next((str(cache) for cache, _ in cached.values()), None)  # of all: it is this process's own
    launch = compose(
        ExecRequest(
            image=str(image.image),
            command=(profile.python or "python3", *arguments),
            scratch="${FS_SCRATCH}",
            binds=(
                Bind(str(layout.root.absolute()), writable=True),
                *(Bind(folder) for folder in sorted(map(str, folders))),
                *(_bind(text) for text in image.binds),
            ),
            gpus=profile.gpus_per_node if image.nv else 0,
            digest=digest,
            environment={} if cache is None else {"HF_HUB_CACHE": cache},
        )
    )
    prelude = ["mkdir -p " + " ".join(quote_word(folder) for folder in launch.folders)]
    prelude.append(pass_through_shell(launch.flavour))
    prelude += [f"export {name}={quote_word(value)}" for name, value in launch.environment.items()]
    return Program(" ".join(quote_word(word) for word in launch.argv), tuple(prelude))


def _bind(text: str) -> Bind:
    """SRC[:DST[:ro|rw]] as profiles write it."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    return Bind(source, target or None, writable=mode == "rw")
