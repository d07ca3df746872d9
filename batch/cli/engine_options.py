"""Options of every command that loads a model itself."""

from __future__ import annotations

from typing import Annotated

import typer

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
FormatOption = Annotated[str, typer.Option("--prompt-format", help="auto, chat, harmony, think or plain.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Rows per batch.")]
