"""A prompt on the terminal. Its text is a model's and a dataset's: control characters are shown, never sent."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foreshock.batch.cli.tell import visible


def print_prompt(shown: dict[str, Any]) -> None:
    """Print what `show_prompt` found."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_rule("prompt"))
    console.print(Text(visible(shown["prompt"])), end="")
    console.print(Text(visible(shown["prefill"]), style="reverse"))
    console.print(_rule("the model goes on here"))
    console.print(rendering_table(shown, _facts(shown)))
    console.print(_rule(f"token ids, prompt: {shown['prefill_start']}"))
    console.print(" ".join(map(str, shown["token_ids"][: shown["prefill_start"]])))
    console.print(_rule(f"token ids, prefill: {shown['prefill_tokens']}"))
    console.print(" ".join(map(str, shown["token_ids"][shown["prefill_start"] :])) or "none")


def rendering_table(found: dict[str, Any], first: list[tuple[str, str]]) -> Table:
    """What prompts and stops resolve to; `first` are rows before it."""
    table = Table.grid(padding=(0, 2))
    for name, value in first:
        table.add_row(name, Text(visible(value)))
    arguments = ", ".join(f"{name}: {value!r}" for name, value in found["template_args"].items())
    table.add_row("prompt format", Text(f"{found['format']} (template arguments: {arguments})"))
    if found["opening"] is None:
        table.add_row("reasoning", Text(visible(f"no section: {found['derived_from']}")))
    else:
        table.add_row("reasoning", Text(f"{found['opening']!r} to {found['closing']!r}, from {found['derived_from']}"))
    table.add_row("answer", Text(found["answer"]))
    table.add_row("stops", Text(_stops(found)))
    return table


def _stops(found: dict[str, Any]) -> str:
    named = [_token(item) for item in found["stop_tokens"]]
    for late in found["stop_tokens_in_the_answer"]:
        named.append(f"{', '.join(map(_token, late['tokens']))} after {late['after']!r}")
    named += [repr(text) for text in found.get("stop_strings", ())]
    return ", ".join(named)


def _token(item: dict[str, Any]) -> str:
    return f"{visible(item['token'])} ({item['id']})"


def _facts(shown: dict[str, Any]) -> list[tuple[str, str]]:
    context = "" if shown["context"] is None else f" of a context of {shown['context']}"
    prefill = f"{shown['words']} words, {shown['prefill_tokens']} tokens"
    return [
        ("checkpoint", shown["checkpoint"]),
        ("task", shown["task"]),
        ("prefill", f"level {shown['level']}: {prefill}" + (f", from {shown['trace']}" if shown["trace"] else "")),
        ("length", f"{shown['tokens']} tokens{context}"),
    ]


def _rule(title: str) -> Text:
    return Text(f"--- {title} ---", style="bold")
