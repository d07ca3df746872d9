"""`python -m foreshock.jobs.records.format_docs` prints docs/formats.md from the table of fields itself."""

from __future__ import annotations

from collections.abc import Iterable

from foreshock.jobs.records.rows import (
    ERROR,
    EVAL_FIELDS,
    EXPLOIT_LOGPROB_FIELDS,
    KL_FIELDS,
    LOGPROB_FIELDS,
    PREFILL_ATTEMPT,
    PREFILL_MODEL,
    ROLLOUT,
    SAMPLE_FIELDS,
    Field,
)

_INTRO = """\
# Files of a run

Every table is JSON Lines: one object a line, UTF-8, one file for each checkpoint and prefill level. foreshock reads the
same files from other tools: only the keys marked **required** must be there, absent ones count as null, further ones
are ignored, and a key with a value of another type is an error that names file and line.

| file | holds |
|---|---|
| `evals/checkpoint-N_prefillL.jsonl` | one row per attempt |
| `evals/checkpoint-N_prefillL.jsonl.samples.jsonl` | the same rows with prompt, response and code |
| `ground_truth/`, `extra/` | level-0 attempts beside the sweep's, rows as in `evals/` |
| `logprob/checkpoint-N_prefillL_logprobs.jsonl` | one row per scored prefill |
| `ref_logprob/` | the same under the donor |
| `kl/checkpoint-N_prefillL_kl.jsonl` | one row per prefill scored under both |
| `exploit_logprob/checkpoint-N.jsonl` | scores of the problems' own exploit code, by reasoning before it |
| `own_reasoning/*/checkpoint-N.jsonl` | a row per continuation of own reasoning: [without-donor.md](without-donor.md) |
| `splitting/checkpoint-N.jsonl` | one row per repeat of splitting: the same page |
| `*/tables-*.zip`, `*/samples-*.zip` | these tables, of runs of `execution.bundle_from` cells or more: below |
| `inputs/problems.jsonl`, `inputs/prefills.jsonl` | problems and traces as they were when the run was planned |
| `inputs/honest.jsonl` | the honest reasoning before exploit code, whose it is, or why a task has none |
| `plan.json`, `packs/`, `shards/`, `progress/`, `logs/` | the work: what is to be computed, and what is done |
| `shards/bundles/*.zip` | sealed shards with their manifests, of runs of `execution.bundle_from` shards or more |
| `config.yaml`, `metadata.json`, `status.json` | what was asked for, on what machine, and how it ended |
| `analysis/`, `report.html` | what was found |

In runs of 2,000 cells or more (`execution.bundle_from`), tables of up to 8 MB (samples: 16 MB) lie in ZIP archives
without compression, each in the folder and under the name that its file would have; every command reads them there.
`unzip` in that folder brings the files back, and `foreshock export RUN --to files -o FOLDER` copies all tables out. A
file beside an archive is read in place of the table of the same name in it. Where cells of the plan lack a table (an
archive is gone), every command that reads the run says how many of how many and which, and `status` which of them are
computed; `foreshock aggregate RUN` makes their tables again from the shards.

A samples file of another tool may hold fewer rows and fewer keys than its table, as djinn's does. The table says which
attempts there are and how they ended; viewer and exports add what the samples file has of them.

`L` and `prefill_level` count words. Keys appear in the order of these tables. *Column* says whether analyses read it.

<!-- Generated from jobs/records/rows.py by `make docs`; edit that file instead. -->
"""


def render() -> str:
    """The whole document."""
    samples = [field for field in SAMPLE_FIELDS if field not in EVAL_FIELDS]
    optional = (ROLLOUT, ERROR)
    return "\n".join(
        [
            _INTRO,
            "## Attempts: `evals/`, `ground_truth/`, `extra/`\n",
            "`exploit_success` may be absent where `secure_pass` and `insecure_pass` are both there.\n",
            field_table((*EVAL_FIELDS, *optional), required=("task_id", "exploit_success")),
            "## Samples: the further keys of `*.samples.jsonl`\n",
            field_table(samples),
            "## Scores: `logprob/`, `ref_logprob/`\n",
            "The last two keys are read from other tools' files; foreshock does not write them here.\n",
            field_table(
                (*LOGPROB_FIELDS, *optional, PREFILL_MODEL, PREFILL_ATTEMPT),
                required=("task_id", "prefill_logprob_sum"),
            ),
            "## Divergences: `kl/`\n",
            field_table((*KL_FIELDS, *optional), required=("task_id", "kl_divergence")),
            "## Exploit code: `exploit_logprob/`\n",
            field_table((*EXPLOIT_LOGPROB_FIELDS, ERROR), required=("task_id", "exploit_logprob_sum")),
        ]
    )


def field_table(fields: Iterable[Field], required: tuple[str, ...] = ()) -> str:
    """One line a field."""
    lines = ["| key | type | known by | column | meaning |", "|---|---|---|---|---|"]
    for field in fields:
        notes = ("**required.** " if field.name in required else "") + ("Not in every row. " if field.sometimes else "")
        column = "yes" if field.read else ""
        lines.append(f"| `{field.name}` | {field.type} | {field.owner} | {column} | {notes}{field.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
