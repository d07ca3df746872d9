"""`python -m foreshock.batch.cli.profile_docs` prints docs/slurm-profile.md from the schema itself."""

from __future__ import annotations

from foreshock.batch.cli.config_docs import default_text, type_text
from foreshock.slurm.profile import ContainerProfile, Profile, shipped_profiles

_INTRO = """\
# Keys of a Slurm profile

A profile is a small YAML file about one kind of node: [slurm.md](slurm.md) shows one and says how it is used. Unknown
keys are refused. Shipped profiles, to use or to copy: {shipped}.

<!-- Generated from the schema by `make docs`; edit slurm/profile.py instead. -->
"""


def render() -> str:
    """The whole document."""
    shipped = ", ".join(f"`{name}`" for name in shipped_profiles())
    return "\n".join(
        [_INTRO.format(shipped=shipped), key_table(Profile), "## `container`\n", key_table(ContainerProfile)]
    )


def key_table(model: type[Profile] | type[ContainerProfile]) -> str:
    """One line a key."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name == "container":
            lines.append("| `container` | mapping | `null` | The image that workers run in: see below |")
            continue
        meanings = [field.description or "", _option(name) if issubclass(model, Profile) else ""]
        meaning = ". ".join(filter(None, meanings))
        lines.append(f"| `{name}` | {type_text(field.annotation)} | {default_text(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _option(key: str) -> str:
    """The option of sbatch that a key becomes."""
    everything = Profile(partition="x", account="x", qos="x", constraint="x", gres="x", mem="1G")
    option = key.replace("_", "-")
    return f"sbatch's `--{option}`" if option in everything.flags() else ""


if __name__ == "__main__":
    print(render(), end="")
