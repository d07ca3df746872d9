"""A run's budget of GPU hours: what would exceed it is not submitted."""

from __future__ import annotations

from collections.abc import Sequence

from foreshock.batch.executors.slurm_reports import hours_used, task_reports
from foreshock.batch.site import Site
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.spec import ArrayTask


class BudgetError(ForeshockError):
    """Submitting would exceed the run's budget."""


def require_budget(layout: RunLayout, site: Site, tasks: Sequence[ArrayTask]) -> None:
    """Raise BudgetError if GPU hours used, by accounting, and those estimated for `tasks` exceed the budget.

    Where accounting does not answer, the estimate alone counts, and the message says so.
    """
    if site.max_gpu_hours is None or not tasks:
        return
    reports = task_reports(layout).tasks
    used = hours_used(layout, reports)
    estimate = sum(task.estimated_minutes for task in tasks) / 60 * (site.require_slurm().profile.gpus or 1)
    if estimate + (0.0 if used is None else used.gpu) <= site.max_gpu_hours:
        return
    so_far = f"{used.gpu:.2f} GPU hours are used" if used is not None else "no GPU hours are used"
    if used is None and reports:
        so_far = "GPU hours used so far are not known, since accounting does not answer"
    raise BudgetError(
        f"not submitted: execution.max_gpu_hours is {site.max_gpu_hours:g}; {so_far}, and about {estimate:.2f} more "
        f"would be needed\n  -> raise it in {layout.config}, then: foreshock resume {layout.root}"
    )
