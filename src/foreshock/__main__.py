"""Entry point of the `foreshock` command and of `python -m foreshock`."""

from __future__ import annotations

import sys

from foreshock.errors import ForeshockError


def main() -> None:
    """Run the command line. Errors meant for users become a message and an exit code, never a traceback."""
    from foreshock.batch.cli.app import app

    try:
        app()
    except ForeshockError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
