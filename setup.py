"""Refuses to build from a copy without foreshock's folders; everything else about the package is in pyproject.toml.

src/foreshock/ holds links to the folders at the top (docs/decisions/0001). A copy that lost them, as some zip downloads
do, would build a package of four files without any error.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup

LINKED = ("analysis", "batch", "containers", "jobs", "slurm")

here = Path(__file__).resolve().parent
lost = [name for name in LINKED if not (here / "src" / "foreshock" / name / "__init__.py").is_file()]
if lost:
    raise SystemExit(
        f"error: src/foreshock/{lost[0]} is not the folder that it should be, so the package would be almost empty: "
        "this copy of foreshock lost its symbolic links, as zip downloads do on some systems\n"
        "  -> get it with git clone (on Windows with core.symlinks=true), or make the links again:\n"
        f"     cd {here / 'src' / 'foreshock'} && for f in {' '.join(LINKED)}; do rm -rf $f; ln -s ../../$f $f; done"
    )
setup()
