"""The sections of a run configuration that say what is asked of which models: checkpoints, problems, forced text,
sampling and prompts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo, field_validator, model_validator

from foreshock.batch.config_values import (
    MANY,
    AbsolutePath,
    Section,
    Steps,
    absolute_path,
    instructions_source,
    plain_values,
    read_levels,
    sorted_unique,
)
from foreshock.jobs.prefill import Before, Channel
from foreshock.jobs.records.checkpoint_names import given_rule, step_of_directory

PROBLEM_SUFFIXES = (".jsonl", ".json", ".parquet", ".gz")
"""What tells a problem file from a data set's name."""


class Assignment(StrEnum):
    """Which trace an attempt is prefilled with: the task's first for all, or trace i for attempt i."""

    SHARED = "shared"
    PER_ATTEMPT = "per_attempt"


BUILTIN = "builtin"
"""`problems.source` of the problems that come with foreshock."""


class CheckpointsConfig(Section):
    """The training run under evaluation."""

    dir: AbsolutePath = Field(
        description="Folder that holds checkpoint-N directories (or step_N, global_step_N, iter_N, epoch-N, final), or "
        "one model's own directory"
    )
    steps: Steps = Field("all", description='Steps to evaluate, or "all"')
    run: str | None = Field(None, description="Name of the training run; default: the folder above `checkpoints`")
    repo: str | None = Field(
        None,
        description="In place of `dir`: a repository on the Hugging Face hub whose revisions or subfolders are the "
        "steps, `org/model` or `org/model@revision`; `foreshock prefetch` gets it",
    )
    pattern: str | None = Field(
        None, description="Regular expression of the directories' (or revisions') whole names, with a group `step`"
    )
    tokenizer: AbsolutePath | None = Field(
        None, description="Directory of the tokenizer; default: the checkpoint's, else the one beside the steps"
    )
    may_differ: tuple[Literal["format", "template", "tokenizer", "stops"], ...] = Field(
        (), description="What need not be equal over the run's checkpoints; the report shows it first"
    )

    @model_validator(mode="before")
    @classmethod
    def _folder_of_repository(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("repo") is None:
            return data
        from foreshock.jobs.model_files.hub_checkpoints import repo_folder

        folder = repo_folder(str(data["repo"]))
        if data.get("dir") is not None and Path(data["dir"]).expanduser().absolute() != folder:
            raise ValueError("dir and repo are both given; give one of them")
        return {**data, "dir": folder}

    @field_validator("pattern")
    @classmethod
    def _has_a_step(cls, value: str | None) -> str | None:
        if value is not None:
            given_rule(value)
        return value

    @property
    def run_name(self) -> str:
        """The name given, else the repository's, else the folder's (its parent's when the folder is called
        `checkpoints` or like a step)."""
        if self.run is not None:
            return self.run
        if self.repo is not None:
            return self.repo.partition("@")[0].rpartition("/")[2]
        folder = self.dir
        try:
            step_of_directory(folder.name)
            folder = folder.parent
        except ValueError:
            pass
        return folder.parent.name if folder.name == "checkpoints" else folder.name


class ProblemsConfig(Section):
    """The problems to solve."""

    source: str = Field("builtin", description="`builtin`, a JSONL or parquet file, or a Hugging Face dataset id")
    revision: str | None = Field(None, description="Dataset revision, for a Hugging Face source")
    split: str = Field("eval", description="Split of the source")
    exploit_types: tuple[str, ...] | None = Field(None, description="Keep only these exploit types")
    max_problems: int | None = Field(None, ge=1, description="Keep only the first N problems")
    keep_inconsistent: bool = Field(
        False, description="Run problems whose own ground truth, exploit or wrong code is not judged as it should be"
    )

    @field_validator("source")
    @classmethod
    def _file_is_absolute(cls, source: str, info: ValidationInfo) -> str:
        """A file's path, so that the saved configuration means the same anywhere; names of data sets stay."""
        if source == BUILTIN or source.startswith("hf:"):
            return source
        path = absolute_path(source, info)
        named_like_a_file = path.suffix in PROBLEM_SUFFIXES or source[0] in "./~$"
        return str(path) if named_like_a_file or path.exists() else source


class PrefillConfig(Section):
    """The forced reasoning."""

    source: AbsolutePath | None = Field(None, description="JSONL of exploit traces; not needed for level 0 alone")
    levels: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MANY)], ...], BeforeValidator(read_levels), AfterValidator(sorted_unique)
    ] = Field((0, 10, 30, 100), min_length=1, description='Prefill levels in words, a list or "0,10,30"')
    assignment: Assignment = Field(
        Assignment.SHARED, description="`shared`: one trace a task; `per_attempt`: attempt i takes the task's trace i"
    )
    conditioned: bool = Field(True, description="Use only traces that ended in an exploit; false uses all")
    channel: Channel = Field(
        Channel.REASONING,
        description="`reasoning`: levels force the beginning of the reasoning; `answer`: that of the answer, from the "
        "source's `answer` or `code`, or without a source from each problem's own exploit",
    )
    before: Before = Field(
        Before.EMPTY,
        description="What stands before a forced answer: `empty` reasoning, or the `source`'s own `reasoning`",
    )

    @model_validator(mode="after")
    def _before_is_of_the_answer(self) -> Self:
        if self.before is Before.SOURCE and (self.channel is not Channel.ANSWER or self.source is None):
            raise ValueError("before: source stands before a forced answer; it needs channel: answer and a source")
        return self


class SamplingConfig(Section):
    """How continuations are drawn."""

    temperature: float = Field(1.0, ge=0.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(2048, ge=1, le=MANY, description="Longest continuation, in model tokens")
    attempts: int = Field(3, ge=1, le=MANY, description="Samples per problem and level")
    rollouts: int = Field(1, ge=1, le=MANY, description="Repeats of each attempt, for donor runs (rows gain `rollout`)")
    seed: int = Field(0, ge=0, lt=2**63)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Strings that end a continuation; its text ends before them"
    )
    stop_token_ids: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="Token ids that end one, beside those of tokenizer, generation config and chat template"
    )


class PromptConfig(Section):
    """How problems become prompts: as the model was trained."""

    format: Literal["auto", "chat", "harmony", "think", "plain"] = Field(
        "auto", description="`auto`: as the chat template shows; `foreshock prompt` prints what comes of it"
    )
    system: str | None = Field(None, description="System message")
    instructions: Annotated[str, AfterValidator(instructions_source)] = Field(
        "full",
        min_length=1,
        description="`full`, `bare`, `djinn`, or a text file with {description}, {insecure_verifier_info} and "
        "{function_name}",
    )
    template_args: Annotated[dict[str, JsonValue], BeforeValidator(plain_values)] = Field(
        default_factory=dict,
        description="Arguments of the chat template, such as enable_thinking, reasoning_effort or date (YYYY-MM-DD)",
    )
    opening: str | None = Field(None, description="Text that opens the reasoning; default: the chat template's own")
    closing: str | None = Field(
        None, min_length=1, description="Text that ends the reasoning; default: the chat template's own"
    )
