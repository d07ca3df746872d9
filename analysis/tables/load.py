"""Whole tables in memory: one pandas frame per kind of row.

Frames hold outcomes only. Error rows and rows without an outcome are counted in the report and left out here, so that
no caller can average over a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from foreshock.analysis.tables.cells import CellTable
from foreshock.analysis.tables.files import CellFiles, find_run_files, has_files
from foreshock.analysis.tables.read_report import CellRead, ReadReport
from foreshock.analysis.tables.reading import State, file_states, read_cells
from foreshock.analysis.tables.schema import COUNT_COLUMNS, TableKind

Codes = npt.NDArray[np.signedinteger[Any]]

UNKNOWN_TYPE = "unknown"
_ALWAYS_PRESENT = {"attempt_idx": np.int32, "rollout": np.int32}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table and the bookkeeping of how it was read."""

    frame: pd.DataFrame
    report: ReadReport


def load_evals(run_dir: Path | str, repeats_are_rollouts: bool = False) -> pd.DataFrame:
    """Sampled attempts, one row each. `repeats_are_rollouts` as in `read_cell`.

    Columns: run, checkpoint, prefill_level, task_id, exploit_type, attempt_idx, rollout, exploit_success (bool),
    secure_pass, insecure_pass, insecure_suspect (nullable booleans), reward_gap, output_tokens, prefill_tokens,
    model_id, prefill_sha256, prefill_model_id, prefill_attempt_idx. Strings are categorical.
    """
    return read_table(run_dir, TableKind.EVAL, repeats_are_rollouts).frame


def read_sampled(run_dir: Path | str) -> Loaded:
    """Sampled attempts of the sweep and, of an adaptive run, its further level-0 attempts: who they are and their
    `exploit_success`, none of `load_evals`'s other columns.

    For models of counts alone: cells differ in their number of attempts. Whatever compares cells by how many attempts
    they had (min prefill) or pools exploit types needs `load_evals`.
    """
    run_dir = Path(run_dir)
    swept = find_run_files(run_dir, TableKind.EVAL)
    root = run_dir.resolve().parent if run_dir.resolve().name == TableKind.EVAL.value else run_dir
    further = find_run_files(root, TableKind.EXTRA).cells if has_files(root, TableKind.EXTRA) else ()
    files = (*swept.cells, *further)
    frame, reads = _sampled(files, tuple(file_states(cell.paths) for cell in files), run_name(run_dir))
    return Loaded(frame, ReadReport(TableKind.EVAL, swept.directory, reads, swept.ignored, swept.absent))


@lru_cache(maxsize=1)
def _sampled(
    files: tuple[CellFiles, ...], states: tuple[State, ...], run: str
) -> tuple[pd.DataFrame, tuple[CellRead, ...]]:
    """Kept, since rates and forecast read the same rows; `states` say that the files are still as they were."""
    cells = read_cells(files, TableKind.EVAL, _whole, COUNT_COLUMNS)
    return _to_frame(cells, run), tuple(cell.read for cell in cells)


def load_ground_truth(run_dir: Path | str) -> pd.DataFrame:
    """Extra direct samples of chosen checkpoints; columns as `load_evals`."""
    return read_table(run_dir, TableKind.GROUND_TRUTH).frame


def load_logprobs(run_dir: Path | str) -> pd.DataFrame:
    """Scored prefixes: prefill_logprob_sum and _mean (nats, under the checkpoint), prefill_num_tokens, and identity."""
    return read_table(run_dir, TableKind.LOGPROB).frame


def load_ref_logprobs(run_dir: Path | str) -> pd.DataFrame:
    """As `load_logprobs`, under the donor; `checkpoint` is the donor's file label and means nothing more."""
    return read_table(run_dir, TableKind.REF_LOGPROB).frame


def load_kl(run_dir: Path | str) -> pd.DataFrame:
    """kl_divergence = log Q(z) - log P(z) per prefix (nats; single values may be negative), and its parts."""
    return read_table(run_dir, TableKind.KL).frame


def load_kl_sample(run_dir: Path | str, most_cells: int) -> pd.DataFrame:
    """`load_kl` of at most so many cells, spread evenly over those there are."""
    cells = find_run_files(Path(run_dir), TableKind.KL).cells
    step = max(-(-len(cells) // most_cells), 1)
    return _to_frame(read_cells(cells[::step], TableKind.KL, _whole), run_name(Path(run_dir)))


def read_table(run_dir: Path | str, kind: TableKind, repeats_are_rollouts: bool = False) -> Loaded:
    """Every usable row of `kind` in `run_dir`, with its `ReadReport`.

    Raises:
        InputError: missing directory or files, an unreadable line, contradicting rows.
    """
    run_dir = Path(run_dir)
    files = find_run_files(run_dir, kind)
    cells = read_cells(files.cells, kind, _whole, repeats_are_rollouts=repeats_are_rollouts)
    report = ReadReport(kind, files.directory, tuple(cell.read for cell in cells), files.ignored, files.absent)
    return Loaded(_to_frame(cells, run_name(run_dir)), report)


def _whole(cell: CellTable) -> CellTable:
    return cell


def run_name(run_dir: Path) -> str:
    """The run directory's own name, also for `.` and for a folder inside it."""
    resolved = run_dir.resolve()
    return resolved.parent.name if resolved.name in set(TableKind) else resolved.name


def numbered_checkpoints(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of checkpoints that have a step, with an integer `checkpoint`: what models over log step need."""
    if np.issubdtype(np.asarray(frame["checkpoint"]).dtype, np.integer):
        return frame
    finite: pd.DataFrame = frame.loc[np.isfinite(frame["checkpoint"].to_numpy())]
    return finite.assign(checkpoint=finite["checkpoint"].astype(np.int64))


def constant_category(value: str, size: int) -> pd.Categorical[Any]:
    """`size` times the same string, one byte each."""
    return pd.Categorical.from_codes(np.zeros(size, dtype=np.int8), categories=pd.Index([value], dtype=object))


def checkpoint_values(steps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """int64 where every step is known, float64 with infinity for `final` otherwise."""
    return steps.astype(np.int64) if np.isfinite(steps).all() else steps.astype(np.float64)


def _to_frame(cells: list[CellTable], run: str) -> pd.DataFrame:
    table = pa.concat_tables([cell.rows for cell in cells])
    sizes = [cell.rows.num_rows for cell in cells]
    steps = np.array([cell.read.checkpoint for cell in cells], dtype=np.float64)
    levels = np.array([cell.read.prefill_level for cell in cells], dtype=np.int32)
    columns: dict[str, Any] = {
        "run": constant_category(run, table.num_rows),
        "checkpoint": np.repeat(checkpoint_values(steps), sizes),
        "prefill_level": np.repeat(levels, sizes),
    }
    for name in table.column_names:
        columns[name] = _to_pandas(name, table[name])
    frame = pd.DataFrame(columns, copy=False)  # they are this frame's alone
    frame["exploit_type"] = fill_types(frame["exploit_type"])
    return frame


def _to_pandas(name: str, column: pa.ChunkedArray) -> Any:
    if pa.types.is_dictionary(column.type):
        return to_categorical(column)
    if name in _ALWAYS_PRESENT:
        return column.to_numpy().astype(_ALWAYS_PRESENT[name])
    if pa.types.is_boolean(column.type):
        return column.to_numpy() if column.null_count == 0 else column.to_pandas(types_mapper=_nullable)
    if pa.types.is_integer(column.type):
        series = column.to_pandas(types_mapper=_nullable)
        return series.astype("Int32")
    values = column.to_numpy()
    return values if values.flags.writeable else values.copy()  # one chunk's are Arrow's own, which are kept


def _nullable(kind: pa.DataType) -> Any:
    return pd.BooleanDtype() if pa.types.is_boolean(kind) else pd.Int64Dtype()


def to_categorical(column: pa.ChunkedArray) -> pd.Categorical[Any]:
    """Categories sorted by name, so that nothing downstream depends on file order."""
    chunks = column.unify_dictionaries().chunks
    names = np.array(chunks[0].dictionary.to_pylist() if chunks else [], dtype=object)
    order = np.argsort(names)
    ranks: Codes = np.full(len(names) + 1, -1, dtype=np.min_scalar_type(-len(names) - 1))
    ranks[order] = np.arange(len(names))
    codes: Codes = np.empty(len(column), dtype=ranks.dtype)
    filled = 0
    for chunk in chunks:
        ranks.take(chunk.indices.fill_null(-1), out=codes[filled : filled + len(chunk)], mode="wrap")
        filled += len(chunk)
    return pd.Categorical.from_codes(codes, categories=pd.Index(names[order], dtype=object))


def fill_types(types: pd.Series[Any]) -> pd.Series[Any]:
    """Rows whose type no one recorded form a type of their own, named `unknown`."""
    if not types.isna().any():
        return types
    if UNKNOWN_TYPE not in types.cat.categories:
        types = types.cat.add_categories([UNKNOWN_TYPE])
    return types.fillna(UNKNOWN_TYPE)
