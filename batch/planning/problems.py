"""The problems of a run: loaded, filtered and checked against the verifier that will judge them.

A problem the verifier does not know is an error before anything runs, not a column of failed verifications
afterwards.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from foreshock.batch.config_inputs import BUILTIN, ProblemsConfig
from foreshock.errors import InputError
from foreshock.jobs.verify.hub import HubDataset, load_problem_source, parse_hub_source
from foreshock.jobs.verify.problem import Problem


def load_run_problems(config: ProblemsConfig, known_types: frozenset[str] | None) -> dict[str, Problem]:
    """Problems by id, in source order. `known_types`: those that a verifier judges; None where nothing is judged.

    Raises InputError for duplicates, unknown types and empty selections.
    """
    problems = _load(config)
    duplicates = [task for task, n in Counter(problem.id for problem in problems).items() if n > 1]
    if duplicates:
        raise InputError(
            f"problem ids must be unique; repeated in {config.source}: {', '.join(duplicates[:5])}"
            + (f" and {len(duplicates) - 5} more" if len(duplicates) > 5 else "")
        )
    if config.exploit_types is not None:
        present = sorted({problem.exploit_type for problem in problems})
        unknown = sorted(set(config.exploit_types) - set(present))
        if unknown:
            raise InputError(
                f"problems.exploit_types: {', '.join(unknown)} not in {config.source}; present: {', '.join(present)}"
            )
        problems = [problem for problem in problems if problem.exploit_type in config.exploit_types]
    problems = problems[: config.max_problems]
    present_types = {problem.exploit_type for problem in problems}
    strange = sorted(present_types - known_types) if known_types is not None else []
    if strange and known_types is not None:
        raise InputError(
            f"the verifier does not know exploit type {', '.join(strange)}; it knows: {', '.join(sorted(known_types))}",
            fix="choose another verifier.name, or leave these out with problems.exploit_types",
        )
    if not problems:
        raise InputError(f"no problems left from {config.source}", fix="widen problems.exploit_types or split")
    return {problem.id: problem for problem in problems}


def _load(config: ProblemsConfig) -> list[Problem]:
    if config.source == BUILTIN:
        from foreshock.jobs.verify.builtin.problems import builtin_problems

        if config.split not in ("train", "eval"):
            raise InputError(
                f"problems.split: {config.split!r} is not a split of the built-in problems; valid: train, eval"
            )
        return list(builtin_problems("train" if config.split == "train" else "eval"))
    return list(load_problem_source(_address(config), config.split))


def hub_source(config: ProblemsConfig) -> HubDataset | None:
    """The data set on the hub that a run's problems come from; None for built-in problems and files."""
    return None if config.source == BUILTIN else parse_hub_source(_address(config))


def _address(config: ProblemsConfig) -> str:
    """The source as a file or an hf:// address; a bare `org/name` is a Hugging Face data set if no such file exists."""
    source = config.source
    path = Path(source).expanduser()
    if source.startswith("hf:") or path.is_file():
        return source
    if path.suffix in (".jsonl", ".json", ".parquet"):
        raise InputError("no such problem file", path=path, fix="set problems.source to a file that is there")
    if path.exists():
        return source
    if source.count("/") == 1 and config.revision is not None:
        return f"hf://datasets/{source}@{config.revision}"
    raise InputError(
        f"problems.source: {source!r} is neither a file nor a data set with a revision; valid: builtin, a .jsonl or "
        ".parquet file, or a Hugging Face id (org/name) together with problems.revision"
    )
