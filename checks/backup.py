"""Drills a disaster: backs up under load, loses everything, restores on another server and resumes.

    python3 -m checks.backup        (`make backup-check` builds the binaries first)

Runs the stories of operations::backup with more load than `make test` does. They use scripts/backup and scripts/restore.
"""

from __future__ import annotations

import os
import sys

from checks.harness.base import BINARIES, show, usage


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    # --workspace, as everywhere: with one package alone cargo resolves other features, and compiles everything again.
    show(
        BINARIES / "parlance", "with-postgres", "--", "cargo", "test", "--workspace", "--test", "stories", "--",
        "operations::backup", env={**os.environ, "PARLANCE_BACKUP": "full"},
    )


if __name__ == "__main__":
    main()
