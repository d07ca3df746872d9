"""A plan's summary as tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


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
    facts.add_row("runs on", f"{summary['cluster']}, {summary['workers']} workers, engine {summary['engine']}")
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
    if summary["skipped"]:
        reasons = Counter({item["reason"]: item["n_tasks"] for item in summary["skipped"]})
        for reason, n in reasons.items():
            console.print(f"[yellow]skipped at every level above 0: {n} problems ({reason})")
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
    console.print("[dim]estimates use assumed costs until shards have finished; nothing was started")
