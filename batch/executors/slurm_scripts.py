"""What a pack's Slurm jobs run: workers and the finishing step, on the node itself or inside an image.

Everything a job needs is resolved when it is submitted and journaled with the submission (profiles included), so a
submission that was interrupted, or the last job of a run, rebuilds the very same scripts without the files that the
user may have edited since.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from foreshock.batch.executors.slurm_arrays import shares, split_arrays
from foreshock.batch.executors.slurm_work import AFTER
from foreshock.batch.site import Site, SlurmSite
from foreshock.containers.compose import compose
from foreshock.containers.identity import require_signature
from foreshock.containers.launch import PASS_THROUGH, Bind, ExecRequest, GpuKind, quote, split_environment
from foreshock.containers.linked import linked_folders
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.jobs.model_files.adapters import base_of, hub_cache_of, is_adapter
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import ArrayTask
from foreshock.slurm.commands import SiteLimits
from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program, excluded_nodes
from foreshock.slurm.journal import Journal, Submission, new_submission
from foreshock.slurm.profile import Profile, stored_profile
from foreshock.slurm.submit import Scripts


def current_settings(site: Site, exclude: Sequence[str] = ()) -> dict[str, Any]:
    """What a submission made now keeps of the site: profiles without the nodes of `exclude`, the image."""
    slurm = site.require_slurm()
    for profile in (slurm.profile, slurm.final, *slurm.more):
        image = profile.container
        if image is not None and image.verify:
            require_signature(image.image, image.runtime, image.key)
    return {
        "profile": without_nodes(slurm.profile, exclude).model_dump(mode="json"),
        "final_profile": without_nodes(slurm.final, exclude).model_dump(mode="json"),
        "more_profiles": [without_nodes(profile, exclude).model_dump(mode="json") for profile in slurm.more],
        "gpus": slurm.profile.gpus if site.uses_gpus else 0,
    }


def without_nodes(profile: Profile, exclude: Sequence[str]) -> Profile:
    """The profile with `exclude` added to the nodes that it keeps away from."""
    listed = excluded_nodes(profile)
    fresh = [node for node in exclude if node not in listed.split(",")]
    if not fresh:
        return profile
    value = ",".join([*([listed] if listed else []), *fresh])
    return profile.model_copy(update={"sbatch": profile.sbatch | {"exclude": value}})


def plan_submission(
    pack: int,
    tasks: Sequence[ArrayTask],
    site: Site,
    limits: SiteLimits,
    rounds_left: int,
    rows_missing: int,
    run: str = "",
    exclude: Sequence[str] = (),
) -> Submission:
    """A journal entry for `tasks`, in arrays that the site accepts; `run` is what a person calls the run."""
    settings = current_settings(site, exclude) | {"rows_missing": rows_missing, "run": run}
    return _entry(pack, tasks, limits, site.require_slurm(), rounds_left, settings)


def next_submission(
    earlier: Submission,
    pack: int,
    tasks: Sequence[ArrayTask],
    limits: SiteLimits,
    rows_missing: int,
    exclude: Sequence[str] = (),
) -> Submission:
    """A journal entry for what is missing after `earlier`, with its profiles and one round less."""
    settings = earlier.settings | {"rows_missing": rows_missing, "healing": True, AFTER: earlier.token}
    for name in ("profile", "final_profile"):
        settings[name] = without_nodes(stored_profile(earlier.settings[name]), exclude).model_dump(mode="json")
    settings["more_profiles"] = [
        without_nodes(stored_profile(stored), exclude).model_dump(mode="json")
        for stored in earlier.settings.get("more_profiles", ())
    ]
    return _entry(pack, tasks, limits, journaled_site(earlier), earlier.rounds_left - 1, settings)


def _entry(
    pack: int, tasks: Sequence[ArrayTask], limits: SiteLimits, site: SlurmSite, rounds_left: int,
    settings: dict[str, Any],
) -> Submission:  # fmt: skip
    chunks, profiles = [], []
    for profile, (share, room) in enumerate(shares(tasks, site.workers, limits.max_submit)):
        own = split_arrays(share, limits.max_array_size, room) if share else []
        chunks += own
        profiles += [profile] * len(own)
    arrays = [[[task.index for task in element.tasks] for element in chunk.elements] for chunk in chunks]
    labels = [_label([task for element in chunk.elements for task in element.tasks]) for chunk in chunks]
    run = settings.get("run", "")
    return new_submission(pack, arrays, site.name, rounds_left, settings, labels, run, profiles)


def _label(tasks: Sequence[ArrayTask]) -> str:
    """The checkpoints of some tasks, for a job's name: `64`, `64-512`."""
    points = {spec.checkpoint for task in tasks for spec in task.specs}
    if not points:
        return ""
    first, last = (point.name.removeprefix("checkpoint-") for point in (min(points), max(points)))
    return first if first == last else f"{first}-{last}"


def journaled_site(submission: Submission) -> SlurmSite:
    """The profiles that `submission` was planned with."""
    profile, final = (stored_profile(submission.settings[key]) for key in ("profile", "final_profile"))
    more = tuple(stored_profile(stored) for stored in submission.settings.get("more_profiles", ()))
    return SlurmSite(submission.profile, profile, final, more)


def make_scripts(layout: RunLayout, plan: PlanFile, submission: Submission) -> Scripts:
    """The scripts of a journal entry."""
    site = journaled_site(submission)
    profiles, final_profile = (site.profile, *site.more), site.final
    root = layout.root.absolute()
    pack = str(submission.pack)
    gpus = submission.settings.get("gpus", 0)
    planned = ("--gpus", str(gpus)) if gpus else ()
    argv = ("-m", "foreshock.jobs", str(root), "--pack", pack, *planned)
    workers = [_program(layout, plan, profile, argv) for profile in profiles]
    finish = _program(layout, plan, final_profile, ("-m", "foreshock.batch.heal", str(root), "--pack", pack))
    arrays = tuple(
        ArrayScript(
            job.name, submission.token, root, submission.pack, workers[job.profile], job.elements, profiles[job.profile]
        )
        for job in submission.arrays
    )
    final = None if submission.final is None else FinalScript(
        submission.final.name, submission.token, root, submission.pack, finish, next_folder(layout, submission),
        final_profile, site.profile.qos,
    )  # fmt: skip
    return Scripts(arrays, final)


def next_folder(layout: RunLayout, submission: Submission) -> Path:
    """Where the last job of `submission` writes the scripts of the next round."""
    return Journal(layout.root.absolute()).root / f"after-{submission.token}"


def _program(layout: RunLayout, plan: PlanFile, profile: Profile, arguments: tuple[str, ...]) -> Program:
    models = {spec.checkpoint.path for spec in plan.specs} | {spec.checkpoint.tokenizer_path for spec in plan.specs}
    return program_on(profile, sys.executable, arguments, [layout.root], models)


def program_on(
    profile: Profile,
    python: str,
    arguments: tuple[str, ...],
    writable: Sequence[Path],
    models: Set[Path],
) -> Program:
    """Python with `arguments` on the node itself, with the profile's interpreter or `python`; or in the profile's
    image, which sees `writable` folders, and for reading `models` and their bases."""
    if profile.container is None:
        return Program.from_argv((profile.python or python, *arguments))
    needed = {path.absolute() for path in models}
    needed |= {base_of(path) for path in needed if is_adapter(path)}
    cached = {path: hub for path in needed if (hub := hub_cache_of(path)) is not None}
    folders = {cached[path][1] if path in cached else path for path in needed}
    cache = next((str(cache) for cache, _ in cached.values()), None)  # of all: it is this process's own
    written = [path.absolute() for path in writable]
    folders |= linked_folders(folders, written)
    binds = [*(Bind(str(path), writable=True) for path in written), *(Bind(str(path)) for path in sorted(folders))]
    return image_program(profile, arguments, tuple(binds), {} if cache is None else {"HF_HUB_CACHE": cache})


def image_program(
    profile: Profile, arguments: tuple[str, ...], binds: tuple[Bind, ...], environment: Mapping[str, str]
) -> Program:
    """Python with `arguments` in the image of a profile that has one, seeing `binds` and what the profile binds."""
    image = profile.container
    if image is None:
        raise ValueError("the profile names no image")
    runtime = RUNTIMES.get(image.runtime)
    values, names = split_environment(image.env)
    launch = compose(
        ExecRequest(
            image=image.image,
            command=(profile.python or "python3", *arguments),
            scratch="${FS_SCRATCH}",
            binds=(*binds, *map(Bind.parse, image.binds)),
            gpus=profile.gpus if image.nv or image.rocm else 0,
            gpu_kind=GpuKind.ROCM if image.rocm else GpuKind.NVIDIA,
            unpack=image.unpack,
            runtime=image.runtime,
            image_file=_image_file(image.image) if runtime.takes_files else None,
            environment={**environment, **values},
            pass_through=(*PASS_THROUGH, *names),
        )
    )
    there = f"fs_say '{runtime.program} is not on PATH on this node: add it to the setup of the profile (module load)'"
    check: tuple[str, ...] = (f"command -v {runtime.program} >/dev/null || {{ {there}; exit 127; }}",)
    if image.verify and runtime.verify is not None:
        argv = " ".join(quote(word) for word in runtime.verify(image.image, image.key))
        check += (f"{argv} || {{ fs_say 'the image is not signed as asked; nothing is started in it'; exit 1; }}",)
    return Program(launch.command(), (*check, *launch.prelude()), launch.cleanup)


def _image_file(image: str) -> str | None:
    """The file that a worker reads to say what it runs in; a folder is told by what it holds."""
    return image if image.startswith("/") and not Path(image).is_dir() else None
