"""Programs that shell commands write or run."""

from __future__ import annotations

import pytest

from foreshock.jobs.answers.shell import here_documents, written_by_commands


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (r"printf 'def f(x):\n    return x %% 2\n' > s.py", "def f(x):\n    return x % 2"),
        (r"printf '%s\n' 'def f(x):' '    return x' > s.py", "def f(x):\n    return x"),
        (r"printf '%b' 'def f(x):\n    return x\n' | tee s.py", "def f(x):\n    return x"),
        (r"printf 'x = \x25d\n' 1 > s.py", None),  # a sign that an escape makes begins no directive
        (r"printf '\x25%d = 1\n' 1 > s.py", None),
        (r"printf '%%\n' 1 2 > s.py", None),
    ],
)
def test_printf_is_read_as_the_shell_reads_it(command: str, written: str | None) -> None:
    assert written_by_commands(command) == ([] if written is None else [written])


def test_each_program_that_runs_is_one_of_its_own() -> None:
    programs = [f"def f(x):\n    return {number}" for number in range(5)]
    assert written_by_commands("\n".join(f'python3 -c "{code}"' for code in programs)) == programs


def test_a_here_document_ends_at_its_own_word() -> None:
    assert here_documents("cat <<-'EOFX' > s.py\nx = 1\nEOF\n  EOFX\ncat <<EOF\ny = 2\nEOF") == ["x = 1\nEOF", "y = 2"]
    assert here_documents("$code = @'\nx = 1\n'@ | python") == ["x = 1"]
