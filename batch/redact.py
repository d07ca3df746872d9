"""Remove secrets from what a run records: by pattern, because a list of known names always misses the next one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|KEY|PASS|PWD$|CREDENTIAL|AUTH|BEARER|COOKIE|SESSION_?ID|PRIVATE|SIGNATURE|WEBHOOK",
    re.IGNORECASE,
)


_HARMLESS_NAME = re.compile(r"^(PWD|OLDPWD|SSH_AUTH_SOCK_DIR|TOKENIZERS_PARALLELISM|XAUTHORITY)$")
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


def redact_text(text: str) -> str:
    """The text without anything that looks like a key, a token or a password in a URL."""
    return _SECRET_VALUE.sub(REMOVED, text)


def redact_environment(environment: Mapping[str, str], secret: str | None = None) -> dict[str, str]:
    """Variables by name, the values of those that may hold a secret replaced; `secret` names one that does."""
    shown = {}
    for name, value in sorted(environment.items()):
        hidden = name == secret or (_names_secret(name, value) and not _HARMLESS_NAME.match(name))
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
