"""Remove secrets from what a run records.

Of the environment, of a command line's options and of URLs, only what is known to be harmless is recorded: variables
that matter to a result, options of foreshock's own that hold numbers, names and paths, servers' usual paths. Of free
text, such as errors, what looks like a key, a password or a login is removed: nobody can list what people write.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|KEY|PASS|PWD$|CREDENTIAL|AUTH|BEARER|COOKIE|SESSION_?ID|PRIVATE|SIGNATURE|WEBHOOK|JWT|DSN",
    re.IGNORECASE,
)


_HARMLESS_NAME = re.compile(r"^(PWD|OLDPWD|SSH_AUTH_SOCK_DIR|TOKENIZERS_PARALLELISM|XAUTHORITY)$")
_RECORDED_NAME = re.compile(
    r"^(PATH|PWD|OLDPWD|HOME|USER|LOGNAME|SHELL|HOSTNAME|HOST|LANG|LANGUAGE|TZ|TMPDIR|TERM|VIRTUAL_ENV|MODULEPATH"
    r"|LOADEDMODULES|TOKENIZERS_PARALLELISM|CUBLAS_WORKSPACE_CONFIG|MALLOC_ARENA_MAX|COLUMNS|LINES|SHLVL|CI"
    r"|(LC|LD|XDG|PYTHON|CONDA|CUDA|CUDNN|CUBLAS|NVIDIA|NCCL|GLOO|OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|NUMEXPR|NUMBA|TORCH"
    r"|PYTORCH|TORCHINDUCTOR|TRITON|VLLM|FLASHINFER|HF|TRANSFORMERS|SAFETENSORS|RAYON|SLURM|SLURMD|APPTAINER|SINGULARITY"
    r"|ROCR|HIP|XLA|FORESHOCK)_?[A-Z0-9_]*)$"
)
_RECORDED_OPTIONS = frozenset({
    "alarm-by", "alarm-probability", "alpha", "attempt", "attempts", "base", "base-url", "batch-size", "by-step",
    "calibration",
    "checkpoint", "checkpoint-dir", "checkpoints", "closing", "cluster", "config", "control-evals",
    "control-logprobs", "definitions", "device", "djinn", "donor-run", "dtype", "emit-sbatch", "engine", "epochs",
    "exclude-exploit-types", "exclude-ids", "exploit", "exploit-evals", "exploit-logprobs", "exploit-type",
    "export", "fail-if", "false-alarm-rate", "filter", "format", "fractions", "from-oci", "gp", "gpu", "heal",
    "held-out", "honest-reasoning", "horizon", "html", "insecure", "instructions", "intentional", "keep", "kind",
    "kl-cap", "labels",
    "learning-rate", "level", "level-scale", "levels", "lines", "logprob-dirs", "logprob-threshold", "max-problems",
    "max-samples", "max-tokens", "mean", "method", "micro-batch", "model", "natural-to", "num-attempts", "offset",
    "opening", "output", "output-dir", "pack", "particles", "patience", "pattern", "per-task", "per-type",
    "permutations", "places", "poll-seconds", "port", "power", "prefill-from", "prefill-levels", "prefill-run-dir",
    "prefill-tokens", "problems", "profile", "prompt", "prompt-format", "rank", "repeats", "response",
    "results-dir", "run-dir", "runtime", "sample-tokens", "samples", "scratch", "secure", "seed", "sensitivity-run",
    "served-model", "settle-seconds", "sft-run-dir", "shared", "sigma-is", "sigma-slope", "slurm", "source",
    "split", "step", "stop", "stop-file", "stop-on", "stop-token-id", "system", "target", "task", "temperature",
    "template-arg", "then", "threshold", "threshold-checkpoint", "timeout", "to", "tokenizer", "traces",
    "trajectory-csv", "until-step", "upload", "verifier", "wait", "wheels", "without", "workers", "c", "n", "o",
})  # fmt: skip
"""Options whose values are numbers, names and paths. Shell commands, webhooks and other programs' options are not."""
_FLAGS = frozenset({
    "adaptive", "all-types", "allow-weak-sandbox", "analyse", "calibrate", "content", "donor-conditioned",
    "donor-unconditioned", "dry-run", "exit-on-alarm", "fail-on-change", "figures", "final", "fit-offset", "force",
    "help", "joint", "json", "keep-inconsistent", "load", "once", "open", "paths", "per-problem", "per-run",
    "rate-models", "re-extract", "report", "rescore", "score", "sensitivity", "site", "skip-analysis", "skip-logprob",
    "sources", "strict", "unconditioned", "unpack", "use-reasoning-field", "use-run-context", "version", "watch", "yes",
    "h", "y",
})  # fmt: skip
_RECORDED_PATH = re.compile(
    r"v\d+(beta\d*)?|api|openai|chat|completions|models|health|metrics|tokenize|detokenize|inference|deployments?|"
)
"""Parts of the paths of model servers; a webhook's path is its password."""
_DATA_SCHEMES = frozenset({"s3", "gs", "hf", "file"})
_COUNT_NAME = re.compile(r"(TOKENS|KEYS|_IDS?)$", re.IGNORECASE)
"""`--max-tokens 512` counts something; only a value that is a number is taken for a count."""
_SECRET_VALUE = re.compile(
    # Keys that say what they are. `disk-of-an-experiment` and `task_descriptions` only hold the letters of one.
    r"(?<![A-Za-z0-9])(?:sk|hf|gh[oprsu]|github_pat|xox[abeprs]|glpat|npm|pypi|dop_v1|lin_api|key|rk|pk)"
    r"[-_](?=[-_A-Za-z]*\d|[-_A-Za-z0-9]{20})[-_A-Za-z0-9]{12,}"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|(?<![A-Za-z0-9])AIza[-_A-Za-z0-9]{20,}|(?<![A-Za-z0-9])SG\.[-_A-Za-z0-9]{10,}\.[-_A-Za-z0-9]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password in a URL
    r"|(?i:(?<=bearer )|(?<=basic ))[^\s&;,'\"]{6,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]+"  # JSON web tokens
)
_NAMED_VALUE = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*(?: (?:id|key|token))?)(?P<mark>[\"']?\s*(?:=|:(?!//))\s*)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s&;,'\"(){}\[\]<>]+)",
    re.IGNORECASE,
)
"""`password=x`, `"api_key": "x"`, `token: x`, in connection strings, JSON, YAML and shell."""


REMOVED = "<removed>"


_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^\s'\"<>]*[^\s'\"<>:,.;)\]}])")
_KEY_LIKE = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}|\d{16,}")


def redact_text(text: str) -> str:
    """The text without anything that looks like a key, a token, a webhook, or a login in a URL."""
    shown = _URL.sub(lambda match: _redact_url(match[0]), text)
    return _NAMED_VALUE.sub(_redact_named, _SECRET_VALUE.sub(REMOVED, shown))


def _redact_named(match: re.Match[str]) -> str:
    value = match["value"]
    if REMOVED in match[0] or match["name"].endswith(("Error", "Exception")):
        return match[0]
    if not _names_secret(match["name"].replace("-", "_"), value.strip("\"'")):
        return match[0]
    if value.lower() in ("none", "null", "true", "false", "bearer", "basic"):
        return match[0]  # nothing, or the word before what was looked for already
    return f"{match['name']}{match['mark']}{REMOVED}"


def _redact_url(url: str) -> str:
    """Scheme and host stay; who logs in, values of queries, and any path that is not a model server's go."""
    scheme, _, rest = url.partition("://")
    rest, hash_mark, _ = rest.partition("#")
    head, question, query = rest.partition("?")
    authority, slash, path = head.partition("/")
    login, at, host = authority.rpartition("@")
    if scheme == "file":
        return url
    if scheme in _DATA_SCHEMES:
        path = "/".join(REMOVED if _KEY_LIKE.fullmatch(part) else part for part in path.split("/"))
    elif not all(_RECORDED_PATH.fullmatch(part) for part in path.split("/")):
        path = REMOVED
    values = [f"{name}={REMOVED}" if equals else REMOVED for name, equals, _ in _queries(query)]
    tail = f"{question}{'&'.join(values)}{hash_mark and hash_mark + REMOVED}"
    return f"{scheme}://{REMOVED + at if login else ''}{host}{slash}{path}{tail}"


def _queries(query: str) -> list[tuple[str, str, str]]:
    return [part.partition("=") for part in query.split("&")] if query else []


def redact_environment(environment: Mapping[str, str], secret: str | None = None) -> dict[str, str]:
    """Variables by name; the values of all but the known harmless ones are replaced. `secret` names one that is not."""
    shown = {}
    for name, value in sorted(environment.items()):
        known = _RECORDED_NAME.match(name) and (not _names_secret(name, value) or _HARMLESS_NAME.match(name))
        hidden = name == secret or not known
        shown[name] = REMOVED if hidden else redact_text(value)
    return shown


def _names_secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(name)) and not (_COUNT_NAME.search(name) and value.strip().isdecimal())


def redact_command(arguments: Sequence[str]) -> str:
    """The command line; values of options that are not known to be harmless are replaced."""
    shown, hide_next = [], False
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        known = name.lstrip("-") in _RECORDED_OPTIONS
        if hide_next:
            shown.append(REMOVED)
            hide_next = False
        elif argument.startswith("-") and equals:
            shown.append(f"{name}={redact_text(value) if known else REMOVED}")
        elif argument.startswith("-"):
            shown.append(argument if re.fullmatch(r"--?[A-Za-z][A-Za-z0-9_-]*", argument) else REMOVED)
            hide_next = not known and not _is_flag(argument) and not following.startswith("-") and following != ""
        elif equals and _names_secret(name.replace("-", "_"), value):
            shown.append(f"{name}={REMOVED}")
        else:
            shown.append(redact_text(argument))
    return shlex.join(shown)


def _is_flag(option: str) -> bool:
    """Whether an option of foreshock's own takes no value: what follows it is an argument, not a secret."""
    return option.lstrip("-").removeprefix("no-") in _FLAGS
