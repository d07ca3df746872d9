"""The arguments that a chat template reads, so that a misspelt one does not pass for one that was heeded."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer, template_sources

_CLOCK = "date"
_CLOCK_READERS = frozenset({"strftime_now", "date_string", "date"})
_OURS = frozenset(
    {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "documents", "raise_exception"}
)


@lru_cache(maxsize=32)
def _parsed(source: str) -> Any:
    """A template's syntax tree; None if it cannot be parsed."""
    from jinja2 import Environment, TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols

    class Generation(Extension):
        """`{% generation %}` blocks, which mark the assistant's part for training."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

        def parse(self, parser: object) -> nodes.Node:
            lineno = next(parser.stream).lineno  # type: ignore[attr-defined]  # jinja2 has no types for it  # a jinja2 Parser, which has no stubs here
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)  # type: ignore[attr-defined]  # jinja2 has no types for it
            return nodes.Scope(body, lineno=lineno)

    environment = Environment(extensions=[loopcontrols, Generation], autoescape=False)
    try:
        return environment.parse(source)
    except TemplateError:
        return None


def read_arguments(source: str) -> frozenset[str]:
    """Names that a template's source takes from its caller; empty if it cannot be parsed."""
    from jinja2 import meta

    tree = _parsed(source)
    return frozenset() if tree is None else frozenset(meta.find_undeclared_variables(tree))


def identifiers(source: str) -> frozenset[str]:
    """Names of variables, fields and kinds that a template's source uses; prose is none of them."""
    from jinja2 import nodes

    tree = _parsed(source)
    if tree is None:
        return frozenset()
    names = {node.name for node in tree.find_all(nodes.Name)} | {node.attr for node in tree.find_all(nodes.Getattr)}
    names |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return frozenset(name for name in names if name.isidentifier())


def draws_at_random(source: str) -> bool:
    """Whether a template writes something else each time: jinja2's `random` filter or its `lipsum`."""
    from jinja2 import nodes

    tree = _parsed(source)
    if tree is None:
        return False
    return any(node.name == "random" for node in tree.find_all(nodes.Filter)) or any(
        node.name == "lipsum" for node in tree.find_all(nodes.Name)
    )


def heeded_arguments(tokenizer: Tokenizer, settings: PromptSettings) -> dict[str, Any]:
    """Those of a run's arguments that the templates read, foreshock's own ones included."""
    known = read_arguments(template_sources(tokenizer)) | settings.template_args.keys()
    return {name: value for name, value in settings.arguments().items() if name in known}


def require_known_arguments(tokenizer: Tokenizer, settings: PromptSettings) -> None:
    """Raise InputError for a template argument of the run that no template of the tokenizer reads."""
    if not settings.template_args:
        return
    known = read_arguments(template_sources(tokenizer))
    if not tokenizer.chat_template:
        known = frozenset({"reasoning_effort", _CLOCK})  # of foreshock's own layout of Harmony
    for name in settings.template_args:
        heeded = bool(known & _CLOCK_READERS) if name == _CLOCK else name in known
        if heeded:
            continue
        valid = sorted(known - _OURS - {"strftime_now"}) + ([_CLOCK] if known & _CLOCK_READERS else [])
        close = difflib.get_close_matches(name, valid, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise InputError(
            f"prompt.template_args.{name} is not read by the chat template{hint} It reads: {', '.join(valid) or 'none'}"
        )
