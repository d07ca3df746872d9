"""Entry point of the `foreshock` command and of `python -m foreshock`."""

from __future__ import annotations

import errno
import os
import sys

from foreshock.errors import ForeshockError


def main() -> None:
    """Run the command line. Errors meant for users become a message and an exit code, never a traceback."""
    # torch's threads wait for each other spinning; where another program shares the cores that costs ten times the
    # time. Read by the OpenMP library when it loads, and inherited by workers.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from foreshock.batch.cli.app import app

    try:
        app()
    except ForeshockError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()
            sys.exit(141)
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            print(f"error: a file cannot be written: {error.strerror}", file=sys.stderr)
            print("  -> make room (df -h, quota), then run the command again", file=sys.stderr)
            sys.exit(1)
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        if not named:
            raise  # not about a file that the user could look at
        print(f"error: {' -> '.join(named)}: {error.strerror or error}", file=sys.stderr)
        print("  -> check that the path is right, its disk has room, and you may write there", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
