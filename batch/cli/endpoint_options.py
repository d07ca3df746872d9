"""Options of every command that can use a running server."""

from __future__ import annotations

from typing import Annotated

import typer

BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="Use a running OpenAI-compatible server, such as `vllm serve`, instead of loading the model: its URL up "
        "to /v1. The key, if it wants one, is read from OPENAI_API_KEY.",
    ),
]
ServedModelOption = Annotated[
    str | None,
    typer.Option("--served-model", help="What that server calls the checkpoint; default: its directory or name."),
]
