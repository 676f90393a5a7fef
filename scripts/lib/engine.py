"""Docker's engine for a check: found, or installed, started and, at the end, stopped. And asking it."""

import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STAND_IN = pathlib.Path(os.environ.get("PARLANCE_STAND_IN_IMAGES") or ROOT.parent / "shared/tools/stand-in-images")
# Whoever uses an engine that a check started, in any checkout; the last one stops it.
USERS = pathlib.Path("/run/parlance-check-containers")
PATIENCE = 120


def say(text):
    print(text, flush=True)


def until(what, ask, patience=PATIENCE):
    """Asks until there is an answer; says what was seen when there never is one."""
    end = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            sys.exit(f"not within {patience} s: {what() if callable(what) else what}")
        time.sleep(0.1)


def run(*words, **more):
    """Runs it to its end. Its output is told only when it fails."""
    words = [str(word) for word in words]
    done = subprocess.run(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, **more,
    )
    if done.returncode != 0:
        sys.exit(f"{shlex.join(words)} failed:\n{done.stdout[-6000:]}")
    return done.stdout


def docker(*words):
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, check=False)


def inspect(container):
    return json.loads(run("docker", "inspect", container))[0]


def answers():
    return shutil.which("docker") is not None and docker("info").returncode == 0


def no_engine(cause):
    sys.exit(f"Docker's engine does not run here and cannot be started, so the containers cannot be checked: {cause}")


def install_what_is_missing(answered):
    """The engine unless one answered, which may run elsewhere, and a compose."""
    packages = [] if answered or shutil.which("dockerd") else ["docker.io", "iptables"]
    packages += [] if find_compose() else ["docker-compose"]
    if not packages:
        return
    if not shutil.which("apt-get") or os.getuid() != 0:
        sys.exit(f"Missing here, to be installed by hand or by apt-get as root: {' '.join(packages)}")
    say(f"installing {' '.join(packages)}")
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def start_engine():
    say("starting dockerd")
    with open("/var/log/dockerd.log", "w") as log:
        child = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 60
    while not answers():
        if child.poll() is not None or time.monotonic() > end:
            lines = pathlib.Path("/var/log/dockerd.log").read_text().strip().splitlines()
            no_engine(lines[-1] if lines else "dockerd says nothing")
        time.sleep(0.2)


def engine_pid():
    with contextlib.suppress(OSError, ValueError):
        return int(pathlib.Path("/run/docker.pid").read_text())
    return None


@contextlib.contextmanager
def engine():
    """An engine that answers, with the base images where they cannot be pulled."""
    before = answers()
    if not before and os.getuid() != 0:
        no_engine("starting it takes root")
    with contextlib.ExitStack() as users:
        if os.getuid() == 0:
            mark = users.enter_context(open(USERS, "a+"))
            fcntl.flock(mark, fcntl.LOCK_SH)
            users.callback(stop_engine, mark)
        made = make_base_images() if STAND_IN.is_file() else None
        if made is None:
            install_what_is_missing(before)
            if not answers():
                start_engine()
        if not answers():
            no_engine((made.stdout.strip().splitlines() or [f"{STAND_IN.name} says nothing"])[-1])
        if not before:
            mark.truncate(0)
            mark.write(str(engine_pid()))
            mark.flush()
        if made is not None and made.returncode != 0:
            sys.exit(f"{STAND_IN} failed:\n{made.stdout[-4000:]}")
        yield


def make_base_images():
    started = time.monotonic()
    done = subprocess.run(
        [STAND_IN, "debian", "rust", "postgres", "nats"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )
    say(f"base images by {STAND_IN.name}: {time.monotonic() - started:.0f} s")
    return done


def stop_engine(mark):
    """Stops the engine if this script started it, now or in another checkout, and nobody uses it any more."""
    mark.seek(0)
    started = mark.read().strip()
    if not started or started != str(engine_pid()):
        return
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    # A build that was broken off takes a moment to end.
    end = time.monotonic() + 20
    while run("docker", "ps", "--quiet").strip():
        if time.monotonic() > end:
            say("dockerd goes on, since other containers run")
            return
        time.sleep(0.2)
    pid = int(started)
    os.kill(pid, signal.SIGTERM)
    until("dockerd has ended", lambda: not pathlib.Path(f"/proc/{pid}").exists() or is_zombie(pid))
    mark.truncate(0)


def is_zombie(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def find_compose():
    if os.environ.get("COMPOSE"):
        return shlex.split(os.environ["COMPOSE"])
    if shutil.which("docker") and docker("compose", "version").returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None
