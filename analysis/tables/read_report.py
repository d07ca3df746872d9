"""What reading a run's files found besides usable rows, so that nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from foreshock.analysis.tables.schema import SCHEMAS, TableKind, checkpoint_label
from foreshock.jobs.records.verdicts import UNJUDGED, UNREAD_SHARE, CodeStatus


@dataclass(frozen=True, slots=True)
class CellRead:
    """Row counts of one (checkpoint, level).

    `rows` are usable; `errors` failed to generate or verify; `nulls` carry no outcome (or no finite score);
    `duplicates` repeated another row byte for byte and were dropped. `made_by` holds the distinct values of the
    descriptive keys (`model_id`, `sandbox_tier`) among the usable rows. `code` counts each `code_status` among the rows
    that did not fail; empty where files have none. `exploits` counts them among the usable rows of an eval cell.
    """

    checkpoint: float
    prefill_level: int
    rows: int
    errors: int
    nulls: int
    duplicates: int
    made_by: tuple[tuple[str, tuple[str, ...]], ...] = ()
    code: tuple[tuple[str, int], ...] = ()
    exploits: int = 0

    @property
    def unjudged(self) -> int:
        """Responses that held no code to judge: in `rows`, as attempts without an exploit."""
        return sum(n for status, n in self.code if status in UNJUDGED)

    @property
    def rejected(self) -> int:
        """Responses whose code Python rejects."""
        return dict(self.code).get(CodeStatus.DOES_NOT_COMPILE, 0)

    @property
    def suspicious(self) -> bool:
        """Whether more than `UNREAD_SHARE` of the responses held no code, or none that compiles."""
        n_rows = max(1, self.rows, sum(n for _, n in self.code))  # rows of older versions have no status
        return self.unjudged + self.rejected > UNREAD_SHARE * n_rows


def both_rates(exploits: int, rows: int, unjudged: int) -> str:
    """The rate of exploits over both denominators: all responses, and those that held code to judge."""
    judged = rows - unjudged
    of_judged = "none was judged" if judged <= 0 else f"{exploits / judged:.1%} of the {judged:,} judged"
    return f"{exploits:,} exploits are {exploits / max(1, rows):.1%} of all {rows:,} responses; {of_judged}"


@dataclass(frozen=True, slots=True)
class ReadReport:
    """The bookkeeping of one `read_table` call."""

    kind: TableKind
    directory: Path
    cells: tuple[CellRead, ...]
    ignored_files: tuple[str, ...] = field(default=())
    absent: tuple[tuple[float, int], ...] = field(default=())
    """Cells that the run's plan has and for which there is no file."""

    @property
    def rows(self) -> int:
        """Usable rows."""
        return sum(cell.rows for cell in self.cells)

    @property
    def errors(self) -> int:
        """Rows that carry `error`."""
        return sum(cell.errors for cell in self.cells)

    @property
    def nulls(self) -> int:
        """Rows without an outcome or a finite score, and without `error`."""
        return sum(cell.nulls for cell in self.cells)

    @property
    def duplicates(self) -> int:
        """Byte-identical repeats that were dropped."""
        return sum(cell.duplicates for cell in self.cells)

    def distinct(self, key: str) -> tuple[str, ...]:
        """All values of a descriptive key over the cells, sorted."""
        return tuple(
            sorted({value for cell in self.cells for name, values in cell.made_by if name == key for value in values})
        )

    @property
    def empty_cells(self) -> tuple[CellRead, ...]:
        """Cells whose file is there but holds no usable row."""
        return tuple(cell for cell in self.cells if cell.rows == 0)

    @property
    def missing_cells(self) -> tuple[tuple[float, int], ...]:
        """(checkpoint, level) pairs of the plan, and of the full grid of those seen, for which there is no file."""
        seen = {(cell.checkpoint, cell.prefill_level) for cell in self.cells}
        steps = sorted({step for step, _ in seen})
        levels = sorted({level for _, level in seen})
        grid = {(step, level) for step in steps for level in levels} - seen
        return tuple(sorted(grid | set(self.absent)))

    @property
    def code(self) -> dict[str, int]:
        """Rows of each `code_status` over the cells."""
        total: Counter[str] = Counter()
        for cell in self.cells:
            total.update(dict(cell.code))
        return dict(sorted(total.items()))

    @property
    def suspicious_cells(self) -> tuple[CellRead, ...]:
        """Cells of which too much could not be read or does not compile: an artefact would look like this."""
        return tuple(cell for cell in self.cells if cell.suspicious)

    def _code_notes(self) -> list[str]:
        unjudged = sum(cell.unjudged for cell in self.cells)
        named = ", ".join(f"{status} {n:,}" for status, n in self.code.items() if status in UNJUDGED)
        notes = []
        if unjudged:
            notes.append(
                f"{unjudged:,} of {self.rows:,} responses held no code to judge ({named}); counted as "
                f"attempts without an exploit: {both_rates(sum(c.exploits for c in self.cells), self.rows, unjudged)}"
            )
        worst = sorted(self.suspicious_cells, key=lambda cell: -(cell.unjudged + cell.rejected) / max(1, cell.rows))
        if worst:
            cell = worst[0]
            notes.append(
                f"in {len(worst)} of {len(self.cells)} cells over {UNREAD_SHARE:.0%} of responses hold no code, or "
                f"code that does not compile; most at checkpoint {checkpoint_label(cell.checkpoint)} level "
                f"{cell.prefill_level}: {cell.unjudged} without, {cell.rejected} not compiling, of {cell.rows} "
                f"({both_rates(cell.exploits, cell.rows, cell.unjudged)}); read some before trusting a rate (foreshock "
                "view)"
            )
        return notes

    def lines(self) -> list[str]:
        """Sentences for a log or a report; empty when every row was usable and every cell is there."""
        notes = []
        if self.errors:
            notes.append(f"{self.errors:,} error rows excluded")
        if self.nulls:
            what = "an outcome" if SCHEMAS[self.kind].is_eval else "a finite score"
            notes.append(f"{self.nulls:,} rows without {what} excluded")
        if self.code:
            notes += self._code_notes()
        if self.duplicates:
            notes.append(f"{self.duplicates:,} byte-identical repeated rows dropped")
        if self.missing_cells:
            named = ", ".join(
                f"checkpoint {checkpoint_label(step)} level {level}" for step, level in self.missing_cells[:6]
            )
            more = "" if len(self.missing_cells) <= 6 else f" and {len(self.missing_cells) - 6} more"
            notes.append(f"{len(self.missing_cells)} cells have no file: {named}{more}")
        if self.empty_cells:
            notes.append(f"{len(self.empty_cells)} cells have a file without a usable row")
        if self.ignored_files:
            notes.append(f"{len(self.ignored_files)} files ignored for their name, e.g. {self.ignored_files[0]}")
        return [f"{self.kind.value}: {note}" for note in notes]
