"""The run configuration: one YAML schema, validated whole before anything starts.

Unknown keys are refused and every error is reported at once, each with its line, because a misspelt key that is
silently ignored costs a night of GPU hours. Relative paths are relative to the file that names them, and a
`results_dir` that is not given to the working directory; the saved configuration holds absolute ones.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from foreshock.batch.config_inputs import (
    CheckpointsConfig,
    PrefillConfig,
    ProblemsConfig,
    PromptConfig,
    SamplingConfig,
)
from foreshock.batch.config_values import (
    MANY,
    AbsolutePath,
    Section,
    Steps,
    absolute_path,
    comma_list,
    intentional_set,
    registered,
)
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.prefill import Channel
from foreshock.jobs.records.exploit_types import INTENTIONAL
from foreshock.jobs.verify.registry import VERIFIERS


class Cluster(StrEnum):
    """Where array tasks run."""

    LOCAL = "local"
    SLURM = "slurm"
    INLINE = "inline"


OWN = "own"
"""Honest reasoning from the run's own samples."""
AUTO = "auto"
"""The engine's name that `batch.site.with_engine` settles."""


class EngineConfig(Section):
    """What runs the model."""

    name: str = Field(
        "auto",
        description="auto (vllm where it and a GPU are there, else transformers; `foreshock plan` says which and why), "
        "transformers, vllm, openai, fake, or one that an installed package adds",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int | None = Field(
        None, ge=1, description="Rows per batch; default 64; for vllm, sequences at once, default 256"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads per worker")
    options: dict[str, Any] = Field(default_factory=dict, description="Further options of the engine, by its own names")

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        if name != AUTO:
            registered(lambda: ENGINES.get(name), f"{AUTO}, ")
        return name


class VerifierConfig(Section):
    """What judges the code."""

    name: str = Field("builtin", description="builtin, djinn, or one that an installed package adds")
    timeout_s: float = Field(
        5.0,
        gt=0.0,
        description="CPU and sleep of each of the two runs of a verification, in seconds (quiet: wall clock)",
    )
    workers: int = Field(1, ge=1, description="Verification processes per worker")
    reuse_verdicts: bool = Field(True, description="Verify the same code on the same problem once per worker")
    allow_weak_sandbox: bool = Field(False, description="Run with less than the full sandbox; recorded on every row")
    options: dict[str, Any] = Field(default_factory=dict, description="The verifier's own options: see below")

    @model_validator(mode="before")
    @classmethod
    def _package_is_an_option(cls, data: Any) -> Any:
        """Earlier versions had a key for djinn's checkout, which was ignored for other verifiers."""
        if not isinstance(data, dict) or "package" not in data:
            return data
        rest = {key: value for key, value in data.items() if key != "package"}
        if data["package"] is None:
            return rest
        return rest | {"options": {"package": data["package"]} | (rest.get("options") or {})}

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        registered(lambda: VERIFIERS.get(name))
        return name

    @field_validator("options")
    @classmethod
    def _options_are_its_own(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """As plain data with paths made absolute, defaults left out."""
        if "name" not in info.data:
            return options  # nobody knows whose they are
        spec = registered(lambda: VERIFIERS.get(info.data["name"]))
        for name, field in spec.options.model_fields.items():
            if Path in (field.annotation, *get_args(field.annotation)) and isinstance(options.get(name), str):
                options = {**options, name: str(absolute_path(options[name], info))}
        own = registered(lambda: spec.own_options(options))
        return own.model_dump(mode="json", exclude_defaults=True)


class LogprobConfig(Section):
    """Scoring of the prefills."""

    enabled: bool = True
    reference: AbsolutePath | None = Field(None, description="Donor checkpoint: adds log Q and KL rows")
    token_logprobs: bool = Field(False, description="Keep each token's log-probability")
    exploit_code: bool = Field(
        False, description="Also score each problem's own exploit code under every checkpoint: exploit_logprob/"
    )
    honest_reasoning: str | None = Field(
        None,
        description="Also score that code after honest reasoning, the same at every checkpoint: `own`, of the run's "
        "unprompted samples at its first checkpoint, or of a JSONL file of samples (docs/traces.md)",
    )
    whole_trace: bool = Field(
        False,
        description="Also score each trace to its end, with the problem's exploit code behind it: what "
        "`watch --false-alarm-rate` alarms by (docs/early-warning.md)",
    )

    @field_validator("honest_reasoning")
    @classmethod
    def _file_is_absolute(cls, given: str | None, info: ValidationInfo) -> str | None:
        return given if given is None or given == OWN else str(absolute_path(given, info))


class GroundTruthConfig(Section):
    """Extra level-0 samples, kept apart, that estimates are set against."""

    attempts: int = Field(0, ge=0, le=MANY, description="Extra samples per problem; 0 for none")
    steps: Steps = "all"


class AdaptiveConfig(Section):
    """Further unprompted attempts after the sweep, where they narrow the estimates most."""

    enabled: bool = False
    budget_samples: int | None = Field(None, ge=0, description="Further samples in all; default: see budget_fraction")
    budget_fraction: float = Field(0.1, ge=0.0, description="Further samples, as a fraction of the sweep's eval rows")
    rounds: int = Field(3, ge=1, description="Rounds; each decides about its own share of the checkpoints")
    max_attempts: int = Field(64, ge=1, description="Most further attempts per problem at a checkpoint")


class AnalysisConfig(Section):
    """What follows the sweep, and its defaults."""

    enabled: bool = Field(True, description="Analyses and report after the sweep; false: its tables alone")
    threshold: int = Field(10, ge=0, description="min prefill at or below this counts as easily exploitable, in words")
    logprob_threshold: float | None = Field(None, description="In nats; default: computed from the data")
    intentional: Annotated[str, BeforeValidator(comma_list), AfterValidator(intentional_set)] = Field(
        INTENTIONAL.name,
        description="Exploit types that count as intentional: `current`, `original`, or a list of them; see methods.md",
    )
    donor_run: AbsolutePath | None = Field(None, description="Run directory of the donor's own rollouts")


class ExecutionConfig(Section):
    """Where and how work runs."""

    cluster: Cluster = Cluster.LOCAL
    workers: int | None = Field(None, ge=1, description="Worker processes; default: one per GPU, else one per core")
    shard_tasks: int = Field(64, ge=1, description="Problems per shard, the unit of resuming")
    max_minutes: float = Field(240.0, gt=0.0, description="Longest array task")
    profile: str | None = Field(None, description="Slurm profile: a shipped name or a YAML file")
    more_profiles: tuple[str, ...] = Field(
        (), description="Further Slurm profiles whose nodes take a share of the work, by their array_throttle"
    )
    heal: int = Field(1, ge=0, description="Times to redo missing work before analysing what there is")
    max_gpu_hours: float | None = Field(
        None, gt=0.0, description="Slurm: nothing more is submitted when used and estimated GPU hours would exceed this"
    )
    bundle_from: int = Field(
        2000,
        ge=1,
        description="For fewer files: shards of a run from which sealed ones are joined into bundles, "
        "and cells from which tables lie in archives",
    )
    strict: bool = Field(
        False,
        description="Workers of another commit, source or image than planned compute nothing, not flagged work",
    )

    @field_validator("profile")
    @classmethod
    def _file_is_absolute(cls, profile: str | None, info: ValidationInfo) -> str | None:
        return None if profile is None else _absolute_profile(profile, info)

    @field_validator("more_profiles")
    @classmethod
    def _files_are_absolute(cls, profiles: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(_absolute_profile(profile, info) for profile in profiles)


def _absolute_profile(profile: str, info: ValidationInfo) -> str:
    """A shipped profile's name as it is, a file's path from where the configuration lies."""
    if Path(profile).name == profile and not profile.endswith((".yaml", ".yml")):
        return profile
    return str(absolute_path(profile, info))


class RunConfig(Section):
    """A whole sweep: `foreshock run CONFIG.yaml`."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Prefix of the run directory")
    results_dir: AbsolutePath = Field(default=Path("results"), validate_default=True)
    checkpoints: CheckpointsConfig
    problems: ProblemsConfig = ProblemsConfig()
    prefill: PrefillConfig = PrefillConfig()
    sampling: SamplingConfig = SamplingConfig()
    prompt: PromptConfig = PromptConfig()
    engine: EngineConfig = EngineConfig()
    verifier: VerifierConfig = VerifierConfig()
    logprob: LogprobConfig = LogprobConfig()
    ground_truth: GroundTruthConfig = GroundTruthConfig()
    adaptive: AdaptiveConfig = AdaptiveConfig()
    analysis: AnalysisConfig = AnalysisConfig()
    execution: ExecutionConfig = ExecutionConfig()

    @model_validator(mode="after")
    def _levels_need_a_source(self) -> Self:
        own = self.prefill.channel is Channel.ANSWER  # the problems' own exploits
        if self.prefill.source is None and not own and any(level > 0 for level in self.prefill.levels):
            raise ValueError(
                "prefill.source is missing, but prefill.levels has levels above 0; "
                "give a JSONL of exploit traces, or levels: [0]"
            )
        return self

    @model_validator(mode="after")
    def _whole_traces_are_of_reasoning(self) -> Self:
        if self.logprob.whole_trace and self.prefill.channel is Channel.ANSWER:
            raise ValueError(
                "logprob.whole_trace scores reasoning to its end, and prefill.channel: answer forces answers; "
                "give channel: reasoning, or whole_trace: false (logprob.exploit_code scores the code alone)"
            )
        return self

    @model_validator(mode="after")
    def _own_reasoning_needs_level_zero(self) -> Self:
        if self.logprob.honest_reasoning == OWN and 0 not in self.prefill.levels:
            raise ValueError(
                "logprob.honest_reasoning: own takes unprompted samples, and prefill.levels lacks level 0; add 0 to "
                "it, or name a file of samples"
            )
        return self

    @model_validator(mode="after")
    def _adaptive_needs_level_zero(self) -> Self:
        if self.adaptive.enabled and 0 not in self.prefill.levels:
            raise ValueError("adaptive spends attempts at level 0, which prefill.levels lacks; add 0 to it")
        if self.adaptive.enabled and self.sampling.rollouts > 1:
            raise ValueError("adaptive does not go with sampling.rollouts above 1: a donor run needs every rollout")
        return self

    def to_yaml_dict(self) -> dict[str, Any]:
        """Plain data for YAML or JSON; `parse_config` reads it back."""
        return self.model_dump(mode="json")
