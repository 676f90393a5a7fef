"""Docker's engine for a check: found, or installed, started and stopped at the end. And the base images that it needs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO, Any, NoReturn

from checks.harness.base import ROOT, run, say, until

# Names a program that builds the base images where they cannot be pulled. Unset: they are pulled.
STAND_IN_IMAGES = "PARLANCE_STAND_IN_IMAGES"
# Locked by each check that uses an engine started by a check, in any checkout; the last of them stops the engine.
USERS = pathlib.Path("/run/parlance-check-containers")
LOG = pathlib.Path("/var/log/dockerd.log")


def docker(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, check=False)


def inspect(name: str) -> Any:
    return json.loads(run("docker", "inspect", name))[0]


def answers() -> bool:
    return shutil.which("docker") is not None and docker("info").returncode == 0


def no_engine(cause: str) -> NoReturn:
    sys.exit(f"Docker's engine does not run and cannot be started, so the containers are not checked: {cause}")


def install_missing(answered: bool) -> None:
    """Installs compose, and the engine unless one answers, which may run elsewhere."""
    packages = [] if answered or shutil.which("dockerd") else ["docker.io", "iptables"]
    packages += [] if find_compose() else ["docker-compose"]
    if not packages:
        return
    if not shutil.which("apt-get") or os.getuid() != 0:
        sys.exit(f"Missing here, and installed only by apt-get as root: {' '.join(packages)}")
    say(f"installing {' '.join(packages)}")
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def start_engine() -> None:
    say("starting dockerd")
    with open(LOG, "w") as log:
        child = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 60
    while not answers():
        if child.poll() is not None or time.monotonic() > end:
            lines = LOG.read_text().strip().splitlines()
            no_engine(lines[-1] if lines else "dockerd has no output")
        time.sleep(0.2)


def engine_pid() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(pathlib.Path("/run/docker.pid").read_text())
    return None


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """An engine that answers and has the base images. Stopped at the end if it was started here."""
    before = answers()
    if not before and os.getuid() != 0:
        no_engine("starting it takes root")
    with contextlib.ExitStack() as users:
        mark = None
        if os.getuid() == 0:
            mark = users.enter_context(open(USERS, "a+"))
            fcntl.flock(mark, fcntl.LOCK_SH)
            users.callback(stop_engine, mark)
        try:
            install_missing(before)
            if not answers():
                start_engine()
        finally:
            if mark and not before and engine_pid():
                mark.truncate(0)
                mark.write(str(engine_pid()))
                mark.flush()
        provide_base_images()
        yield


def base_images() -> list[str]:
    """The public images that the Dockerfile and the compose files name."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE))
    images = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - stages
    for file in ROOT.glob("docker-compose*.yml"):
        images |= {name for name in re.findall(r"^\s*image: (\S+)$", file.read_text(), re.MULTILINE) if "$" not in name}
    return sorted(images)


def provide_base_images() -> None:
    builder = os.environ.get(STAND_IN_IMAGES)
    if builder:
        started = time.monotonic()
        say(f"base images: building them with {builder}")
        run(builder)
        say(f"base images: built in {time.monotonic() - started:.0f} s")
    for image in base_images():
        if docker("image", "inspect", image).returncode != 0:
            say(f"base images: pulling {image}")
            pulled = docker("pull", "--quiet", image)
            if pulled.returncode != 0:
                sys.exit(
                    f"NOT CHECKED: {image} cannot be pulled here, so nothing can be built: {pulled.stderr.strip()}\n"
                    f"Set {STAND_IN_IMAGES} to a program that provides it, or make a registry reachable."
                )


def stop_engine(mark: IO[str]) -> None:
    """Stops the engine if a check started it, here or in another checkout, and no other check uses it."""
    mark.seek(0)
    started = mark.read().strip()
    if not started or started != str(engine_pid()):
        return
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    # An interrupted build takes a moment to end.
    end = time.monotonic() + 20
    while run("docker", "ps", "--quiet").strip():
        if time.monotonic() > end:
            say("dockerd is left running, since other containers run")
            return
        time.sleep(0.2)
    pid = int(started)
    os.kill(pid, signal.SIGTERM)
    until("dockerd has ended", lambda: not pathlib.Path(f"/proc/{pid}").exists() or is_zombie(pid))
    mark.truncate(0)


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def find_compose() -> list[str] | None:
    if os.environ.get("COMPOSE"):
        return shlex.split(os.environ["COMPOSE"])
    if shutil.which("docker") and docker("compose", "version").returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None
