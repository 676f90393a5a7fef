"""Runs Makefile targets one after another, and ends with a count.

    python3 -m checks.ci TARGET...        (`make ci` names all of CHECKS)

Prints the name, time and result of each; one that fails does not stop the others.
"""

from __future__ import annotations

import subprocess
import sys
import time

from checks.harness.base import ROOT, say, usage


def main() -> None:
    targets = sys.argv[1:]
    if not targets or "--help" in targets:
        usage(__doc__)
    began = time.monotonic()
    results: list[tuple[str, bool, float]] = []
    for number, target in enumerate(targets, start=1):
        say(f"\n=== {target} ({number} of {len(targets)})")
        started = time.monotonic()
        passed = subprocess.run(["make", "--no-print-directory", target], cwd=ROOT, check=False).returncode == 0
        results.append((target, passed, time.monotonic() - started))
        say(f"=== {target} {'passed' if passed else 'FAILED'} in {results[-1][2]:.0f} s")

    say(f"\nAll checks, in {time.monotonic() - began:.0f} s:")
    for target, passed, seconds in results:
        say(f"  {target:<16} {seconds:5.0f} s  {'passed' if passed else 'FAILED'}")
    failed = sum(not passed for _, passed, _ in results)
    say(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
