"""Feeds everything that decodes foreign bytes with inputs that are made to break it.

    python3 -m checks.fuzz                    all targets (`make fuzz`)
    python3 -m checks.fuzz hints page         these

FUZZ_SECONDS is the time for each target, 5 by default; FUZZ_RUNS, if it is set, is a number of inputs for each instead.
FUZZ_PROFILE is the cargo profile, dev by default; fuzz-long is for long runs: optimised, with all assertions, and compiled apart.

The Rust targets (fuzz/) run under libFuzzer, which prefers inputs that reach new code. The crates of the workspace are compiled
for it once more, by fuzz/instrument; third-party crates are those of the tests. The target of the web client (web/fuzz) builds
its inputs from the descriptors. Two targets run at a time. Beside panics, each has laws, a limit on memory in proportion to
the input, and a limit on time. An input that breaks one is printed, and kept in target/fuzz.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from checks.harness.base import ROOT, TARGET, run, say, show, usage
from checks.web import WEB, require_node

PROFILE = os.environ.get("FUZZ_PROFILE") or "dev"
FUZZER = TARGET / ("debug" if PROFILE == "dev" else PROFILE) / "parlance-fuzz"
FOLDER = TARGET / "fuzz"
PAGE = "page"
SECONDS = int(os.environ.get("FUZZ_SECONDS") or 5)
RUNS = int(os.environ.get("FUZZ_RUNS") or 0)
# The longest input, in bytes: all of a decoder is reached with far less, and short inputs are faster.
MAX_BYTES = 4096
# For one input. A debug build on a busy machine takes milliseconds.
PATIENCE = 20
AT_A_TIME = 2


@dataclass(frozen=True)
class Result:
    target: str
    inputs: int
    seconds: float
    failure: str = ""

    def row(self) -> str:
        return f"| {self.target} | {self.inputs:,} | {self.inputs / max(self.seconds, 0.1):,.0f} | {int(bool(self.failure))} |"


def build() -> None:
    """Compiles the targets. In the profile dev, features are resolved as for the tests: third-party crates are compiled once."""
    chosen = ["--workspace", "--examples"] if PROFILE == "dev" else ["--package", "parlance-fuzz", "--profile", PROFILE]
    words = ["cargo", "build", *chosen, "--bin", "parlance-fuzz", "--features", "parlance-fuzz/engine"]
    show(*words, env={**os.environ, "RUSTC_WORKSPACE_WRAPPER": str(ROOT / "fuzz/instrument")})


def build_page() -> None:
    require_node()
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=WEB)
    run("node", "build.mjs", "fuzz", cwd=WEB)


def rust(target: str) -> Result:
    """Runs a target under libFuzzer."""
    folder = FOLDER / target
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "corpus").mkdir(parents=True)
    limit = f"-runs={RUNS}" if RUNS else f"-max_total_time={SECONDS}"
    words = [
        FUZZER, folder / "corpus", limit, f"-artifact_prefix={folder}/", f"-max_len={MAX_BYTES}", f"-timeout={PATIENCE}",
        "-rss_limit_mb=1024", "-print_final_stats=1",
    ]
    environment = {**os.environ, "PARLANCE_FUZZ_TARGET": target, "PARLANCE_FUZZ_SEEDS": str(folder / "corpus")}
    began = time.monotonic()
    done = subprocess.run(
        [str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    counted = re.findall(r"stat::number_of_executed_units: (\d+)", output)
    failure = ""
    if done.returncode != 0 or not counted:
        found = [file for file in folder.iterdir() if file.is_file()]
        repeats = "".join(f"\nto repeat: PARLANCE_FUZZ_TARGET={target} {FUZZER} {file}" for file in found)
        failure = f"{output[-3000:]}{repeats}"
    return Result(target, int(counted[-1]) if counted else 0, time.monotonic() - began, failure)


def page() -> Result:
    """Runs the target of the web client."""
    began = time.monotonic()
    words = ["node", "web/build/fuzz.mjs", str(RUNS), "0" if RUNS else str(SECONDS)]
    done = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    counted = re.findall(r"^inputs: (\d+)$", done.stdout, re.MULTILINE)
    failure = "" if done.returncode == 0 and counted else f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return Result(PAGE, int(counted[-1]) if counted else 0, time.monotonic() - began, failure)


def targets(chosen: list[str]) -> list[str]:
    """The Rust targets among the chosen ones, or all of them."""
    # libFuzzer writes to standard error.
    environment = {**os.environ, "PARLANCE_FUZZ_TARGET": "list"}
    listed = subprocess.run([FUZZER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True, check=True)
    known = listed.stdout.split()
    if unknown := set(chosen) - {PAGE, *known}:
        sys.exit(f"Unknown: {', '.join(unknown)}. Known: {', '.join([PAGE, *known])}.")
    return [target for target in known if target in chosen or not chosen]


def tell(job: concurrent.futures.Future[Result]) -> None:
    result = job.result()
    say(f"{result.target}: {result.inputs:,} inputs in {result.seconds:.0f} s")
    if result.failure:
        say(f"  FAILED: {result.failure}")


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    began, chosen = time.monotonic(), sys.argv[1:]
    say(f"=== each target: {f'{RUNS:,} inputs' if RUNS else f'{SECONDS} s'}")
    jobs = []
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        if PAGE in chosen or not chosen:
            build_page()
            # Runs while the others are compiled.
            jobs.append(pool.submit(page))
        build()
        jobs += [pool.submit(rust, target) for target in targets(chosen)]
        for job in jobs:
            job.add_done_callback(tell)
    results = [job.result() for job in jobs]
    say("\n| target | inputs | inputs per second | crashes |\n|---|---:|---:|---:|")
    for result in results:
        say(result.row())
    crashes = sum(bool(result.failure) for result in results)
    inputs = sum(result.inputs for result in results)
    say(f"\nfuzz: {inputs:,} inputs to {len(results)} targets, {crashes} crashes, in {time.monotonic() - began:.0f} s")
    sys.exit(1 if crashes else 0)


if __name__ == "__main__":
    main()
