"""The contract as buf reads it from proto/: packages of services and types with their comments, without vendored files."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
from typing import Any

# The field numbers of descriptor.proto that make up the paths of comments.
SERVICE, RPC = 6, 2
MESSAGE, FIELD, NESTED, ONEOF = 4, 2, 3, 8
ENUM, VALUE = 5, 2

Path = tuple[int, ...]


def read(root: pathlib.Path) -> dict[str, Package]:
    """Reads the packages, by name. BUF in the environment is the command that runs buf."""
    words = [*shlex.split(os.environ["BUF"]), "build", "--output", "-#format=json"]
    image = json.loads(subprocess.run(words, cwd=root, stdout=subprocess.PIPE, check=True).stdout)
    packages: dict[str, Package] = {}
    for descriptor in image["file"]:
        if not descriptor["name"].startswith("google/"):
            name = descriptor.get("package", "")
            File(descriptor).add_to(packages.setdefault(name, Package(name)))
    return packages


class Package:
    """A package of proto/."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.services: list[Declaration] = []
        self.types: list[Declaration] = []
        # Comments that belong to no declaration.
        self.words: list[str] = []


class Declaration:
    """A service, RPC, message, field, oneof, enum or value with its comment. Which members it has depends on its kind."""

    path: Path
    rpcs: list[Declaration]
    values: list[Declaration]
    fields: list[Declaration]
    oneofs: list[Declaration]
    maps: dict[str, Declaration]

    def __init__(self, descriptor: Any, name: str, comment: str, line: int) -> None:
        self.descriptor, self.name, self.comment, self.line = descriptor, name, comment, line
        self.short: str = descriptor["name"]


class File:
    """A file of proto/, as its descriptor."""

    def __init__(self, descriptor: Any) -> None:
        self.descriptor = descriptor
        locations = descriptor["sourceCodeInfo"]["location"]
        self.places: dict[Path, Any] = {tuple(place.get("path", ())): place for place in locations}

    def add_to(self, package: Package) -> None:
        services = self.declarations(SERVICE, self.descriptor.get("service", []), (), package.name)
        for service in services:
            service.rpcs = self.declarations(RPC, service.descriptor["method"], service.path, service.name)
        types = self.enums(self.descriptor.get("enumType", []), ENUM, (), package.name)
        types += self.messages(self.descriptor.get("messageType", []), MESSAGE, (), package.name)
        package.services += services
        package.types += sorted(types, key=lambda one: one.line)
        # Comments before a top-level declaration, with a blank line between.
        for path, place in self.places.items():
            if len(path) == 2:
                package.words += place.get("leadingDetachedComments", [])

    def declarations(self, kind: int, descriptors: Any, path: Path, scope: str) -> list[Declaration]:
        return [self.declaration(one, (*path, kind, number), scope) for number, one in enumerate(descriptors)]

    def declaration(self, descriptor: Any, path: Path, scope: str) -> Declaration:
        place = self.places.get(path, {"span": [0]})
        comment = place.get("leadingComments") or place.get("trailingComments") or ""
        found = Declaration(descriptor, f"{scope}.{descriptor['name']}".lstrip("."), comment, place["span"][0])
        found.path = path
        return found

    def enums(self, descriptors: Any, kind: int, path: Path, scope: str) -> list[Declaration]:
        found = self.declarations(kind, descriptors, path, scope)
        for enum in found:
            enum.values = self.declarations(VALUE, enum.descriptor["value"], enum.path, enum.name)
        return found

    def messages(self, descriptors: Any, kind: int, path: Path, scope: str) -> list[Declaration]:
        """The messages, each followed by those nested in it."""
        found: list[Declaration] = []
        for message in self.declarations(kind, descriptors, path, scope):
            message.fields = self.declarations(FIELD, message.descriptor.get("field", []), message.path, message.name)
            message.oneofs = self.declarations(ONEOF, message.descriptor.get("oneofDecl", []), message.path, message.name)
            nested = self.messages(message.descriptor.get("nestedType", []), NESTED, message.path, message.name)
            entries = [one for one in nested if one.descriptor.get("options", {}).get("mapEntry")]
            message.maps = {one.name: one for one in entries}
            found += [message, *(one for one in nested if one not in entries)]
        return found
