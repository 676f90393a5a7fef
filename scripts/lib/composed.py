"""The image, and a compose project made of it, both under names of this run."""

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from engine import ROOT, docker, find_compose, inspect, run, say, until

PROFILE = os.environ.get("PARLANCE_PROFILE") or "quick"
DEPENDENCIES = "parlance-check-dependencies"

failures = []


def check(holds, text):
    if not holds:
        failures.append(text)
        say(f"  FAILED: {text}")


def free_ports(count):
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def build(image):
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")]
    arguments = [word for name in proxies for word in ("--build-arg", name)]
    # A proxy may well listen on this machine's loopback.
    arguments += ["--network", "host"] if proxies else []
    arguments += ["--build-arg", f"PROFILE={PROFILE}"]

    def stages(context, **names):
        """Builds a stage after the other, each under a name, so that nothing nameless is left behind."""
        for stage, name in names.items():
            started = time.monotonic()
            run("docker", "build", "--force-rm", *arguments, "--target", stage, "--tag", name, context)
            say(f"  {stage}: {time.monotonic() - started:.0f} s")

    say(f"building the image, profile {PROFILE}")
    stages(".", manifests=f"{image}-manifests", dependencies=f"{image}-dependencies")
    keep(f"{image}-dependencies")
    stages(".", build=f"{image}-build", parlance=image)
    say(f"  {inspect(image)['Size'] / 1e6:.0f} MB, its base included")

    say("building again, with other sources of ours")
    with tempfile.TemporaryDirectory(prefix="parlance-context-") as folder:
        files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
        for file in filter(None, files):
            if (ROOT / file).is_file():
                (pathlib.Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, pathlib.Path(folder) / file)
        for source in ("message-service/src/main.rs", "service-kit/src/lib.rs", "build.rs"):
            with open(pathlib.Path(folder) / source, "a") as changed:
                changed.write(f"// {secrets.token_hex(4)}\n")
        stages(folder, manifests=f"{image}-manifests-changed", dependencies=f"{image}-changed")
    same = inspect(f"{image}-changed")["Id"] == inspect(f"{image}-dependencies")["Id"]
    check(same, "a change of our sources builds third-party crates again")


def keep(image):
    """Keeps it for the next run, instead of the one of the run before."""
    before = docker("image", "inspect", "--format", "{{.Id}}", DEPENDENCIES).stdout.strip()
    run("docker", "tag", image, DEPENDENCIES)
    if before and before != inspect(DEPENDENCIES)["Id"]:
        # Refused when another checkout is about to use it.
        docker("rmi", before)


def remove_images(image):
    for stage in ("", "-build", "-dependencies", "-manifests", "-changed", "-manifests-changed"):
        docker("rmi", "--force", f"{image}{stage}")


class Project:
    """The compose project under a name and on ports of its own. A context: gone with it, volume and all."""

    def __init__(self, name, image, folder):
        self.compose = find_compose()
        self.name = name
        self.folder = pathlib.Path(folder)
        self.users, self.messages, self.messages_2, self.metrics = free_ports(4)
        self.environment = {
            **os.environ, "COMPOSE_PROJECT_NAME": name, "PARLANCE_IMAGE": image, "USER_SERVICE_PORT": str(self.users),
            "MESSAGE_SERVICE_PORT": str(self.messages), "MESSAGE_SERVICE_2_PORT": str(self.messages_2),
            # With what would break a URL, a shell or YAML.
            "POSTGRES_PASSWORD": f"p@:/ '\"#%?&{secrets.token_hex(8)}",
        }
        # The metrics of the second replica are read from outside here; by default none are.
        (self.folder / "metrics.yml").write_text(
            f"services:\n  message-service-2:\n    ports: ['127.0.0.1:{self.metrics}:9090']\n"
        )
        (self.folder / "no.env").write_text("")
        self.files = ["docker-compose.yml"]

    def words(self, *words):
        files = [word for file in self.files for word in ("--file", ROOT / file)]
        return [*self.compose, "--env-file", self.folder / "no.env", *files, *words]

    def do(self, *words):
        return run(*self.words(*words), env=self.environment)

    def refuses_without_a_password(self):
        environment = {name: text for name, text in self.environment.items() if name != "POSTGRES_PASSWORD"}
        words = [str(word) for word in self.words("config")]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        check(done.returncode != 0 and "put POSTGRES_PASSWORD into .env" in told, f"without a password it says: {told}")

    def up(self, *more):
        self.files += more
        started = time.monotonic()
        self.do("up", "--detach", "--no-build")
        for service in ["user-service", "message-service"] + (["message-service-2"] if more else []):
            until(lambda: f"{service} is healthy; {self.log(service)}", lambda: self.health(service) == "healthy")
        say(f"up and healthy ({' '.join(self.compose)}): {time.monotonic() - started:.0f} s")

    def container(self, service):
        found = run(
            "docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).split()
        return found[0] if len(found) == 1 else sys.exit(f"not one container of {service}, but {len(found)}")

    def health(self, service):
        return inspect(self.container(service))["State"]["Health"]["Status"]

    def log(self, service):
        done = docker("logs", "--tail", "40", self.container(service))
        return f"it says:\n{done.stdout}{done.stderr}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is not None:
            with contextlib.suppress(SystemExit):
                say(self.do("ps"))
                say(self.do("logs", "--tail", "30"))
        self.do("down", "--volumes", "--remove-orphans")
        mine = f"label=com.docker.compose.project={self.name}"
        for what in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            left = run("docker", *what, "--quiet", "--filter", mine).strip()
            check(not left, f"left by docker {' '.join(what)}: {left}")
