"""Gaussian-process models of every type's rate, for comparison with the estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request

if TYPE_CHECKING:
    from foreshock.analysis.gp.fit import GPFit
    from foreshock.analysis.page.sections import Section


def _find(request: Request) -> GPFit:
    from foreshock.analysis.evidence.load import load_evidence
    from foreshock.analysis.gp.counts import surface_counts
    from foreshock.analysis.gp.fit import fit_gp
    from foreshock.analysis.gp.models import GPSettings

    evidence = load_evidence(list(request.runs), request.donor_run, conditioned=False).evidence
    return fit_gp(surface_counts(evidence), GPSettings())


def _show(request: Request, fit: GPFit) -> Section:
    from foreshock.analysis.gp.rates import write_gp_rates
    from foreshock.analysis.page.sections import ReportTable, Section, paragraph

    table = request.folder / "gp" / "gp_rates.csv"
    write_gp_rates(fit, table)
    return Section(
        title="Gaussian process",
        anchor="gp",
        lead="A smooth surface over checkpoints and prefill levels, read off at level 0.",
        body_html=paragraph(
            "For comparison with earlier studies. The intervals are the model's own and too narrow where no exploit "
            "was seen; claims rest on the estimates above. `foreshock gp` fits the other models and draws figures."
        ),
        tables=(ReportTable("Unprompted rates by the Gaussian process", table),),
    )


ANALYSIS = Analysis("gp", "fitting Gaussian processes", "no Gaussian process", _find, _show, on_request=True)
