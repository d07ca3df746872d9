"""Entry point of the `foreshock` command and of `python -m foreshock`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from foreshock.batch.cli.app import app

    app()


if __name__ == "__main__":
    main()
