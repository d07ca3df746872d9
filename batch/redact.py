"""Remove secrets from what a run records.

Of the environment, only variables that are known to matter to a result and to hold no secret are recorded; of texts and
command lines, what looks like a key, a password or a webhook is removed, because nobody can list what people write.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|KEY|PASS|PWD$|CREDENTIAL|AUTH|BEARER|COOKIE|SESSION_?ID|PRIVATE|SIGNATURE|WEBHOOK|JWT",
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
_COUNT_NAME = re.compile(r"(TOKENS|KEYS)$", re.IGNORECASE)
"""`--max-tokens 512` counts something; only a value that is a number is taken for a count."""
_SECRET_VALUE = re.compile(
    # Keys that say what they are. `disk-of-an-experiment` and `task_descriptions` only hold the letters of one.
    r"(?<![A-Za-z0-9])(?:sk|hf|gh[oprsu]|github_pat|xox[abprs]|glpat)[-_](?=[-_A-Za-z]*\d|[-_A-Za-z0-9]{20})[-_A-Za-z0-9]{12,}"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password in a URL
    r"|(?i:(?<=[?&;]token=)|(?<=password=)|(?<=passwd=)|(?<=api_key=)|(?<=secret=)|(?<=bearer ))[^\s&;'\"]{6,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]+"  # JSON web tokens
)


REMOVED = "<removed>"


_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^\s'\"<>]+)")
_HOOK = re.compile(r"hook|discord(app)?\.com/api|sentry|ingest|push", re.IGNORECASE)
_KEY_LIKE = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}|\d{16,}")


def redact_text(text: str) -> str:
    """The text without anything that looks like a key, a token, a webhook, or a login in a URL."""
    return _SECRET_VALUE.sub(REMOVED, _URL.sub(lambda match: _redact_url(match[0]), text))


def _redact_url(url: str) -> str:
    """Scheme and host stay; who logs in, values of queries, and the path of a webhook or what looks like a key go."""
    scheme, _, rest = url.partition("://")
    head, question, query = rest.partition("?")
    authority, slash, path = head.partition("/")
    login, at, host = authority.rpartition("@")
    if scheme == "file":
        return url
    if path and _HOOK.search(head):
        path = REMOVED
    else:
        path = "/".join(REMOVED if _KEY_LIKE.fullmatch(part) else part for part in path.split("/"))
    values = [
        f"{name}={REMOVED}" if equals else name for name, equals, _ in (q.partition("=") for q in query.split("&"))
    ]
    return f"{scheme}://{REMOVED + at if login else ''}{host}{slash}{path}{question}{'&'.join(values) if query else ''}"


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
    """The command line, values of options such as `--api-key` replaced."""
    shown, hide_next = [], False
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        option = name.replace("-", "_")
        if hide_next:
            shown.append(REMOVED)
            hide_next = False
        elif equals and _names_secret(option, value):
            shown.append(f"{name}={REMOVED}")
        elif not equals and argument.startswith("-"):
            shown.append(argument)
            hide_next = _names_secret(option, following) and not following.startswith("-")
        else:
            shown.append(redact_text(argument))
    return shlex.join(shown)
