"""`foreshock view`: look at the samples behind every number, in a browser or as a folder of plain files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.tell import tell_gaps

if TYPE_CHECKING:
    from foreshock.analysis.view.query import RunIndex

RunsArgument = Annotated[list[Path] | None, typer.Argument(help="Run directories; default: the newest run.")]
ExportOption = Annotated[
    Path | None, typer.Option("--export", help="Write a static copy of the page into this new folder, and end.")
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")]


ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Serve this report too; default: a single run's own report.html, where it has one."),
]


def view(
    runs: RunsArgument = None,
    to: ExportOption = None,
    port: PortOption = 0,
    open_browser: OpenOption = False,
    report: ReportOption = None,
) -> None:
    """Open the samples of runs: prompt, forced words, continuation, code and verdicts of every attempt.

    Example: foreshock view results/prefill_sensitivity/my-sweep-20260101-120000-abcdef0

    On a cluster, forward the port that is printed: ssh -L PORT:127.0.0.1:PORT login-node
    """
    from foreshock.analysis.view.export import export
    from foreshock.analysis.view.index import index_run
    from foreshock.analysis.view.query import RunIndex
    from foreshock.batch.cli.display import count_bar
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.errors import InputError

    folders = runs or [newest_run(Path("results")).root]
    tell_gaps(*folders)
    opened = []
    for folder in folders:
        with count_bar(f"indexing {folder.resolve().name}") as on_progress:
            opened.append(RunIndex(folder.resolve().name, index_run(folder, on_progress)))
    names = [run.name for run in opened]
    if len(set(names)) < len(names):
        raise InputError(f"two runs have one name: {', '.join(sorted(names))}", fix="name each run once")
    if to is not None:
        with count_bar(f"exporting to {to}", unit="samples") as on_progress:
            n = export(opened, to, on_progress)
        typer.echo(f"{n} samples; open {to / 'index.html'}")
        return
    if report is not None and not report.is_file():
        raise InputError("no such report", path=report, fix="foreshock report --run-dir RUN writes one")
    own = folders[0] / "report.html"
    _serve(opened, port, open_browser, report or (own if len(folders) == 1 and own.is_file() else None))


def _serve(opened: list[RunIndex], port: int, open_browser: bool, report: Path | None) -> None:
    import webbrowser

    from foreshock.analysis.view.server import ViewServer

    server = ViewServer(opened, port, report)
    typer.echo(f"samples: {server.address}")
    if server.report_address is not None:
        typer.echo(f"report:  {server.report_address}")
    typer.echo("Ctrl-C ends it.")
    if open_browser:
        webbrowser.open(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        server.server_close()
