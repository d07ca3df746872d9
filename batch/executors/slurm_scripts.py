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

from foreshock.batch.executors.slurm_arrays import split_arrays
from foreshock.batch.site import Site, SlurmSite
from foreshock.containers.launch import Bind, ExecRequest, compose, pass_through_shell
from foreshock.containers.launch import quote as quote_word
from foreshock.jobs.adapters import base_of, hub_cache_of, is_adapter
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.spec import ArrayTask
from foreshock.slurm.commands import SiteLimits
from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program
from foreshock.slurm.journal import Journal, Submission, new_submission
from foreshock.slurm.profile import Profile, parse_profile
from foreshock.slurm.submit import Scripts


def plan_submission(
    pack: int, tasks: Sequence[ArrayTask], site: Site, limits: SiteLimits, rounds_left: int, rows_missing: int
) -> Submission:
    """A journal entry for `tasks`, in arrays that the site accepts."""
    slurm = site.require_slurm()
    settings = {
        "profile": slurm.profile.model_dump(mode="json"),
        "final_profile": slurm.final.model_dump(mode="json"),
        "rows_missing": rows_missing,
        "image_digest": site.image_digest,
    }
    return _entry(pack, tasks, limits, slurm.name, rounds_left, settings)


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


def journaled_site(submission: Submission) -> SlurmSite:
    """The profiles that `submission` was planned with."""
    profile, final = (parse_profile(submission.settings[key]) for key in ("profile", "final_profile"))
    return SlurmSite(submission.profile, profile, final)


def make_scripts(layout: RunLayout, plan: PlanFile, submission: Submission) -> Scripts:
    """The scripts of a journal entry."""
    site = journaled_site(submission)
    profile, final_profile = site.profile, site.final
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
    needed = models | {spec.checkpoint.tokenizer_path.absolute() for spec in plan.specs}
    needed |= {base_of(path) for path in models if is_adapter(path)}
    cached = {path: hub for path in needed if (hub := hub_cache_of(path)) is not None}
    folders = {cached[path][1] if path in cached else path for path in needed}
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
