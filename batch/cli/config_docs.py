"""`python -m foreshock.batch.cli.config_docs` prints docs/configuration.md from the schema itself."""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from foreshock.batch.config import RunConfig
from foreshock.jobs.verify.registry import VERIFIERS

_INTRO = """\
# Configuration

`foreshock run CONFIG.yaml` reads one YAML file. Every key is checked before anything starts: unknown keys are refused
with the valid ones, and all errors are reported at once with their lines. Relative paths are relative to the file that
names them (a `results_dir` that is not given, to the working directory); `$VAR` and `~` are expanded. The resolved
configuration is saved as `config.yaml` in the run directory, with absolute paths, and is itself a valid configuration.
Edits of it are refused when the run is resumed, apart from what changes where work runs and what is made of the rows.

`foreshock init` writes a first file. `foreshock run CONFIG.yaml sampling.attempts=5 'prefill.levels=[0,10]'` replaces
keys for one run, as do `plan` and `prompt`: values are YAML, relative paths are relative to the working directory, and
unknown keys are refused with the nearest ones.

The smallest useful file:

```yaml
name: my-sweep
checkpoints:
  dir: my-run/checkpoints
problems:
  source: problems.jsonl
prefill:
  source: traces.jsonl
  levels: [0, 10, 30, 100]
```

`foreshock plan CONFIG.yaml` shows what a file would do.

<!-- Generated from the schema by `make docs`; edit batch/config.py and batch/config_inputs.py instead. -->
"""


def render() -> str:
    """The whole document."""
    parts = [_INTRO, _table("Top level", RunConfig, sections=False)]
    for name, field in RunConfig.model_fields.items():
        section = _section(field)
        if section is not None:
            parts.append(_table(f"`{name}`", section, sections=True))
        if name == "verifier":
            parts += _verifier_tables()
    return "\n".join(parts)


def _verifier_tables() -> list[str]:
    """Own options of foreshock's own verifiers."""
    specs = [VERIFIERS.get(name) for name in sorted(VERIFIERS.own)]
    tables = []
    for spec in specs:
        if spec.options.model_fields:
            tables.append(_table(f"`verifier.options` of `{spec.name}`", spec.options, sections=True))
    return tables


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(title: str, model: type[BaseModel], sections: bool) -> str:
    lines = [f"## {title}", "", (model.__doc__ or "").strip().split("\n")[0], ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if not sections and _section(field) is not None:
            continue
        lines.append(
            f"| `{name}` | {type_text(field.annotation)} | {default_text(field)} | {field.description or ''} |"
        )
    return "\n".join(lines) + "\n"


def type_text(annotation: Any) -> str:
    """A field's type in words."""
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if hasattr(annotation, "__metadata__"):
        return type_text(get_args(annotation)[0])
    inner = [type_text(argument) for argument in get_args(annotation) if argument is not Ellipsis]
    origin = str(getattr(annotation, "__origin__", ""))
    if "Literal" in origin:
        return ", ".join(f"`{argument}`" for argument in get_args(annotation))
    if "tuple" in origin:
        return f"list of {inner[0]}"
    if "dict" in origin:
        return "mapping"
    if inner:
        return " or ".join(dict.fromkeys(inner))
    return {"Path": "path", "str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def default_text(field: FieldInfo) -> str:
    """A field's default as YAML has it; `required` where it has none."""
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else "`{}`"
    value = field.default
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple):
        value = list(value)
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(render(), end="")
