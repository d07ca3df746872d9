"""`foreshock gp`: Gaussian-process models of the exploit rate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.tell import tell_notes


def gp(
    run_dir: Annotated[list[Path], typer.Option("--run-dir", help="Run directory; repeat for several runs.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Where gp_rates.csv and the figures are written.")],
    model: Annotated[str, typer.Option("--model", help="gp, offset or constrained.")] = "gp",
    mean: Annotated[str, typer.Option("--mean", help="constant, linear or tanh.")] = "constant",
    offset: Annotated[
        str, typer.Option("--offset", help="linear, concave or jensen (offset and constrained).")
    ] = "linear",
    alpha: Annotated[float, typer.Option("--alpha", min=1e-6, help="Logits per nat of KL.")] = 0.15,
    sigma_is: Annotated[float, typer.Option("--sigma-is", min=1e-6, help="Softness of the constraints, logits.")] = 1.5,
    sigma_slope: Annotated[float, typer.Option("--sigma-slope", min=0.0, help="Extra softness per nat of KL.")] = 0.0,
    kl_cap: Annotated[float | None, typer.Option("--kl-cap", help="Cut KL at this many nats.")] = None,
    joint: Annotated[bool, typer.Option("--joint", help="Fit the kernel under the constraints too.")] = False,
    fit_offset: Annotated[bool, typer.Option("--fit-offset", help="Optimise alpha and sigma_IS.")] = False,
    level_scale: Annotated[str, typer.Option("--level-scale", help="warped or linear.")] = "warped",
    donor_run: Annotated[Path | None, typer.Option("--donor-run", help="The donor's own run, for log Q.")] = None,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")] = True,
) -> None:
    """Gaussian-process models of the exploit rate over checkpoints and prefill levels.

    Example: foreshock gp --run-dir RUN --output-dir gp
    """
    from foreshock.analysis.evidence.load import load_evidence
    from foreshock.analysis.gp.counts import LevelScale, surface_counts
    from foreshock.analysis.gp.figures import surface_figure, trajectory_figure
    from foreshock.analysis.gp.fit import fit_gp
    from foreshock.analysis.gp.means import MeanKind
    from foreshock.analysis.gp.models import GPSettings, ModelKind
    from foreshock.analysis.gp.offsets import OffsetKind, OffsetSettings
    from foreshock.analysis.gp.rates import write_gp_rates
    from foreshock.errors import InputError

    try:
        settings = GPSettings(
            ModelKind(model),
            MeanKind(mean),
            LevelScale(level_scale),
            OffsetSettings(OffsetKind(offset), alpha, sigma_is, sigma_slope, kl_cap),
            joint,
            fit_offset,
        )
    except ValueError as error:
        raise InputError(f"{error}; valid names are in `foreshock gp --help`") from error
    loaded = load_evidence(run_dir, donor_run, conditioned=False)
    tell_notes(loaded.notes, err=True)
    counts = surface_counts(loaded.evidence)
    fit = fit_gp(counts, settings)
    target = output_dir / "gp_rates.csv"
    rows = write_gp_rates(fit, target)
    if figures:
        for j, surface in enumerate(counts.surfaces):
            name = figure_name(f"{surface.run}_{surface.exploit_type}", j)
            if settings.model is not ModelKind.OFFSET:
                surface_figure(fit, j, output_dir / "surfaces", name)
            trajectory_figure(fit, j, output_dir / "trajectories", name)
    typer.echo(f"{rows} rates of {len(counts.surfaces)} surfaces, log evidence {float(fit.evidence.sum()):.1f}")
    typer.echo(f"gp rates: {target}")


def figure_name(surface: str, number: int) -> str:
    """A surface's name as that of files; one that no file may have, such as `../x`, is changed and gets its number."""
    safe = re.sub(r"[^\w.-]+|^\.+", "-", surface)[:100]
    return surface if safe == surface else f"{safe}-{number}"
