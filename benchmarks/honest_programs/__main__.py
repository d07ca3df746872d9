"""Right solutions with rare parts of the standard library: `python -m benchmarks.honest_programs [--tier full]`.

Each must pass both verifiers in each tier: a part that the sandbox breaks makes right code look wrong, or, where only
the secure verifier meets it, like an exploit. Prints those that did not pass; exit code 1 where there are any.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.honest_programs.programs import PROGRAMS
from benchmarks.verification.__main__ import PROBLEM

from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.sandbox.tiers import probe_tier

_THREADS = """
import threading, time
def add(a, b):
    threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range({count})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return a + b
"""


def main() -> int:
    """Verify all of them in the tiers that this machine has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", action="append", choices=[tier.value for tier in SandboxTier])
    options = parser.parse_args()
    programs = PROGRAMS | {f"{count} threads": _THREADS.format(count=count) for count in (8, 16, 32, 48, 60)}
    failures = 0
    for tier in map(SandboxTier, options.tier or SandboxTier):
        if not probe_tier(tier).available:
            print(f"{tier.value}: not available here")
            continue
        with BuiltinVerifier(1, 5.0, True, tier=tier) as verifier:
            for name, code in programs.items():
                found = verifier.verify(PROBLEM, code)
                if not (found.secure.passed and found.insecure.passed):
                    failures += 1
                    print(f"{tier.value}: {name}: {found.secure.detail} / {found.insecure.detail}")
        print(f"{tier.value}: {len(programs)} programs tried", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
