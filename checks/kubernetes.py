"""Checks deploy/kubernetes without a cluster.

    python3 -m checks.kubernetes        (`make kubernetes` builds the binaries first)

Renders base and overlays with kustomize, reads them as the API server would (strictly, with its own validation and the Pod
Security Standard), compares them with each other and with the binaries that they start, and plants mistakes, each of which
must be found. promtool reads the example for Prometheus. kustomize and the API's code are Go modules, pinned in
deploy/kubernetes/check/go.sum.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

from checks.harness import go
from checks.harness.base import BINARIES, ROOT, output_of, run, say, show, usage

FOLDER = ROOT / "deploy/kubernetes"


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    for name in ("user-service", "message-service"):
        if not (BINARIES / name).is_file():
            sys.exit(f"{BINARIES / name} does not exist; `make kubernetes` builds it first")
    # The pinned modules are used as they are: go.mod and go.sum are not rewritten.
    environment = {**go.environment(), "GOFLAGS": "-mod=readonly -buildvcs=false"}
    unformatted = run("gofmt", "-l", ".", cwd=FOLDER / "check", env=environment).strip()
    if unformatted:
        sys.exit(f"Not formatted; run gofmt -w in deploy/kubernetes/check: {unformatted}")
    output_of("install-prometheus")
    output_of("install-nats")
    with tempfile.TemporaryDirectory(prefix="parlance-kubernetes-") as scratch:
        say("building kustomize and the check; the first time takes some minutes")
        built = pathlib.Path(scratch)
        kustomize, check = built / "kustomize", built / "check"
        run("go", "build", "-o", kustomize, "sigs.k8s.io/kustomize/kustomize/v5", cwd=FOLDER / "check", env=environment)
        run("go", "build", "-o", check, ".", cwd=FOLDER / "check", env=environment)
        rendered = []
        for kustomization in [FOLDER / "base", *sorted((FOLDER / "overlays").iterdir())]:
            file = built / f"{kustomization.name}.yaml"
            file.write_text(run(kustomize, "build", kustomization))
            rendered.append(f"{kustomization.name}={file}")
        show(
            check, "--prometheus", "prometheus.yml", "--binaries", BINARIES.resolve(), "--readme", "README.md", *rendered,
            cwd=FOLDER,
        )


if __name__ == "__main__":
    main()
