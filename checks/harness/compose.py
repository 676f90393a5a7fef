"""The image, and a compose project that runs it, both under names of this run."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

from checks.harness.base import ROOT, Report, free_ports, run, say, tracked, until
from checks.harness.engine import docker, find_compose, inspect

PROFILE = os.environ.get("PARLANCE_PROFILE") or "quick"
DEPENDENCIES = "parlance-check-dependencies"
PATIENCE = 120


def build(image: str, report: Report) -> None:
    """Builds the image, and proves that a change of our sources does not build third-party crates again."""
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")]
    arguments = [word for name in proxies for word in ("--build-arg", name)]
    # A proxy may listen on this machine's loopback.
    arguments += ["--network", "host"] if proxies else []
    arguments += ["--build-arg", f"PROFILE={PROFILE}"]

    def stages(context: str, **names: str) -> None:
        """Builds stage after stage, each under a name, so that no unnamed image is left behind."""
        for stage, name in names.items():
            started = time.monotonic()
            run("docker", "build", "--force-rm", *arguments, "--target", stage, "--tag", name, context)
            say(f"  {stage}: {time.monotonic() - started:.0f} s")

    say(f"building the image with profile {PROFILE}")
    stages(".", manifests=f"{image}-manifests", dependencies=f"{image}-dependencies")
    keep(f"{image}-dependencies")
    stages(".", build=f"{image}-build", parlance=image)
    say(f"  {inspect(image)['Size'] / 1e6:.0f} MB, including its base")

    say("building again with changed sources")
    with tempfile.TemporaryDirectory(prefix="parlance-context-") as folder:
        context = pathlib.Path(folder)
        for file in tracked():
            (context / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, context / file)
        for source in ("message-service/src/main.rs", "service-kit/src/lib.rs", "build.rs"):
            with open(context / source, "a") as changed:
                changed.write(f"// {secrets.token_hex(4)}\n")
        stages(folder, manifests=f"{image}-manifests-changed", dependencies=f"{image}-changed")
    same = inspect(f"{image}-changed")["Id"] == inspect(f"{image}-dependencies")["Id"]
    report.check(same, "a change of our sources builds third-party crates again")


def keep(image: str) -> None:
    """Keeps the image of dependencies for the next run, instead of the previous one."""
    before = docker("image", "inspect", "--format", "{{.Id}}", DEPENDENCIES).stdout.strip()
    run("docker", "tag", image, DEPENDENCIES)
    if before and before != inspect(DEPENDENCIES)["Id"]:
        # Refused while another checkout uses it.
        docker("rmi", before)


def remove_images(image: str) -> None:
    for stage in ("", "-build", "-dependencies", "-manifests", "-changed", "-manifests-changed"):
        docker("rmi", "--force", f"{image}{stage}")


class Project:
    """The compose project under its own name and ports. A context, which removes it with its volume at the end."""

    def __init__(self, name: str, image: str, folder: pathlib.Path, report: Report) -> None:
        compose = find_compose()
        if compose is None:
            sys.exit("Neither docker compose nor docker-compose is installed.")
        self.compose, self.name, self.folder, self.report = compose, name, folder, report
        self.users, self.messages, self.messages_2, self.metrics = free_ports(4)
        self.environment = {
            **os.environ, "COMPOSE_PROJECT_NAME": name, "PARLANCE_IMAGE": image, "USER_SERVICE_PORT": str(self.users),
            "MESSAGE_SERVICE_PORT": str(self.messages), "MESSAGE_SERVICE_2_PORT": str(self.messages_2),
            # Contains what would break a URL, a shell or YAML.
            "POSTGRES_PASSWORD": f"p@:/ '\"#%?&{secrets.token_hex(8)}",
        }
        # Publishes the metrics of the second replica, which no compose file does.
        (self.folder / "metrics.yml").write_text(
            f"services:\n  message-service-2:\n    ports: ['127.0.0.1:{self.metrics}:9090']\n"
        )
        (self.folder / "no.env").write_text("")
        self.files: list[str | pathlib.Path] = ["docker-compose.yml"]

    def words(self, *words: str) -> list[str]:
        files = [str(word) for file in self.files for word in ("--file", ROOT / file)]
        return [*self.compose, "--env-file", str(self.folder / "no.env"), *files, *words]

    def do(self, *words: str) -> str:
        return run(*self.words(*words), env=self.environment)

    def refuses_without_a_password(self) -> None:
        environment = {name: text for name, text in self.environment.items() if name != "POSTGRES_PASSWORD"}
        done = subprocess.run(self.words("config"), cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        self.report.check(
            done.returncode != 0 and "put POSTGRES_PASSWORD into .env" in output,
            f"without a password compose must fail and explain why; its output: {output}",
        )

    def up(self, *more: str | pathlib.Path) -> None:
        self.files += more
        started = time.monotonic()
        self.do("up", "--detach", "--no-build")
        for service in ["user-service", "message-service"] + (["message-service-2"] if more else []):
            until(
                lambda: f"{service} is healthy; {self.log(service)}", lambda: self.health(service) == "healthy", PATIENCE
            )
        say(f"up and healthy ({' '.join(self.compose)}): {time.monotonic() - started:.0f} s")

    def psql(self, statement: str, role: str = "parlance") -> subprocess.CompletedProcess[str]:
        """Runs a statement with the rights of a role."""
        words = ["psql", "--username=parlance", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "parlance"]
        statements = [f"--command=SET SESSION AUTHORIZATION {role}", f"--command={statement}"]
        return docker("exec", self.container("postgres"), *words, "--set=ON_ERROR_STOP=1", *statements)

    def migrate_as_superuser(self, service: str) -> None:
        """Creates the tables of a service as versions did in which it had no role of its own."""
        self.do("up", "--detach", "--no-build", "postgres")
        until("PostgreSQL is healthy", lambda: self.health("postgres") == "healthy", PATIENCE)
        superuser = {"DATABASE_URL": "postgres://parlance@postgres:5432/parlance", "DATABASE_PASSWORD_FILE": ""}
        superuser["PGPASSWORD"] = self.environment["POSTGRES_PASSWORD"]
        variables = [word for name, text in superuser.items() for word in ("-e", f"{name}={text}")]
        self.do("run", "--rm", "--no-deps", *variables, f"{service}-migrate")

    def container(self, service: str) -> str:
        found = run(
            "docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).split()
        return found[0] if len(found) == 1 else sys.exit(f"{service} has {len(found)} containers instead of one")

    def health(self, service: str) -> str:
        return inspect(self.container(service))["State"]["Health"]["Status"]

    def log(self, service: str) -> str:
        done = docker("logs", "--tail", "40", self.container(service))
        return f"its log ends:\n{done.stdout}{done.stderr}"

    def __enter__(self) -> Project:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            with contextlib.suppress(SystemExit):
                say(self.do("ps"))
                say(self.do("logs", "--tail", "30"))
        self.do("down", "--volumes", "--remove-orphans")
        label = f"label=com.docker.compose.project={self.name}"
        for listing in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            left = run("docker", *listing, "--quiet", "--filter", label).strip()
            self.report.check(not left, f"docker {' '.join(listing)} still lists: {left}")
