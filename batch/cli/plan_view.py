"""A plan's summary as tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from foreshock.batch.cli.prompt_view import rendering_table
from foreshock.batch.cli.tell import visible

if TYPE_CHECKING:
    from foreshock.batch.config import RunConfig


def show_plan(settings: RunConfig, as_json: bool) -> None:
    """Plan a run of these settings and print what it would do, as tables or as one JSON document."""
    from foreshock.batch.planning.make_plan import make_plan
    from foreshock.batch.planning.summary import summarise
    from foreshock.batch.site import resolve_site

    site = resolve_site(settings)
    summary = summarise(make_plan(settings, image=site.image), site)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_plan(summary)


def print_plan(summary: dict[str, Any]) -> None:
    """Print what a run would do."""
    console = Console(highlight=False)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("training run", summary["run"])
    facts.add_row("checkpoints", f"{len(summary['checkpoints'])}: {', '.join(summary['checkpoints'])}")
    facts.add_row("levels (words)", ", ".join(map(str, summary["levels"])))
    facts.add_row("problems", f"{summary['problems']} over {len(summary['problems_by_exploit_type'])} exploit types")
    facts.add_row("traces", str(summary["traces"]))
    facts.add_row("attempts", str(summary["attempts"]))
    rows = ", ".join(f"{n} {kind}" for kind, n in summary["rows"].items())
    facts.add_row("rows", f"{summary['rows_total']} ({rows}) in {summary['shards']} shards")
    why = f" (auto: {summary['engine_reason']})" if summary["engine_reason"] else ""
    shares = ", ".join(f"{profile['workers']} by profile {escape(profile['name'])}" for profile in summary["profiles"])
    where = summary["cluster"] + (f" ({shares})" if shares else "")
    facts.add_row("runs on", f"{where}, {summary['workers']} workers, engine {summary['engine']}{why}")
    if summary["memory"]:
        memory = summary["memory"]
        facts.add_row(
            "memory",
            f"{memory['weights_gib']:g} GiB of weights, {memory['kv_mib_per_sequence']:g} MiB of KV cache a sequence "
            f"of {memory['tokens_per_sequence']} tokens"
            + (f", {memory['gpu_memory_gib']:g} GiB a GPU" if memory["gpu_memory_gib"] else ""),
        )
    console.print(facts)
    if summary["memory"]:
        mark = "" if memory["fits"] and memory["suggested_tensor_parallel"] <= memory["tensor_parallel"] else "[yellow]"
        console.print(f"{mark}memory: {memory['note']}")
    if summary["adaptive"]:
        adaptive = summary["adaptive"]
        console.print(
            f"adaptive: {adaptive['budget_samples']} further unprompted samples in {len(adaptive['rounds'])} rounds "
            f"(spread evenly: {adaptive['evenly_spread_attempts']} more attempts per problem and checkpoint); the "
            "report shows what they saved over an even spread"
        )
    for found in summary["differences"]:
        console.print(f"[red]{found['checkpoint']} differs from {found['from']} in its {found['what']} (allowed)")
    for note in summary["notes"]:
        console.print(f"[yellow]note: {escape(note)}")
    _print_skipped(console, summary["skipped"])
    _print_prompting(console, summary)
    table = Table("task", "specs", "checkpoints", "minutes", box=None, pad_edge=False)
    shown = summary["array_tasks"][:20]
    for task in shown:
        table.add_row(
            str(task["index"]), str(task["specs"]), ", ".join(task["checkpoints"]), f"{task['estimated_minutes']:.1f}"
        )
    console.print(table)
    if len(summary["array_tasks"]) > len(shown):
        console.print(f"... and {len(summary['array_tasks']) - len(shown)} more tasks (--json lists them all)")
    for name in ("packed", "unpacked"):
        cost = summary["estimate"][name]
        console.print(
            f"{name:9} {cost['n_tasks']} tasks, {cost['n_loads']} model loads, "
            f"{cost['gpu_hours']:.2f} worker hours, done after {cost['makespan_hours']:.2f} h"
        )
    console.print(f"[dim]costs: {escape(summary['costs']['from'])}; nothing was started")


def _print_skipped(console: Console, skipped: list[dict[str, Any]]) -> None:
    """Problems left out, by reason; they are the same at every checkpoint."""
    first = skipped[0]["checkpoint"] if skipped else ""
    counts: dict[tuple[str, int], list[int]] = {}
    for item in skipped:
        if item["checkpoint"] == first:
            counts.setdefault((item["reason"], item["n_tasks"]), []).append(item["level"])
    for (reason, n), levels in counts.items():
        at = f"level{'s' if len(levels) > 1 else ''} {', '.join(map(str, levels))}"
        console.print(f"[yellow]skipped at {at}: {n} problems ({reason})")


def _print_prompting(console: Console, summary: dict[str, Any]) -> None:
    """What prompts and stops resolve to, and one prompt, shortened."""
    lengths, one = summary["lengths"], summary["prompt"]
    room = "not stated by the model" if lengths["context"] is None else f"{lengths['context']} tokens"
    cut = f"; {lengths['cut_short']} leave less room than max_tokens" if lengths["cut_short"] else ""
    context = f"{room}; the longest prompt has {lengths['longest_prompt']}{cut}"
    console.print(rendering_table(summary["prompting"], [("context", context)]))
    if one is None:
        return
    console.print(f"--- a prompt: {one['checkpoint']}, task {one['task']}, level {one['level']}", style="dim")
    console.print(Text(visible(one["prompt"]), style="dim"), end="")
    console.print(Text(visible(one["prefill"]), style="reverse"))
    console.print("--- the model goes on here; `foreshock prompt CONFIG.yaml` shows any prompt whole", style="dim")
