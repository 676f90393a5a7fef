"""The contract as buf reads it from proto/: packages of services and types, each with its comment, vendored files left out."""

import json
import os
import shlex
import subprocess

# Where a descriptor keeps what: the field numbers of descriptor.proto, of which the paths of comments are made.
SERVICE, RPC = 6, 2
MESSAGE, FIELD, NESTED, ONEOF = 4, 2, 3, 8
ENUM, VALUE = 5, 2


def read(root):
    """The packages by name. BUF in the environment says how to run buf."""
    words = [*shlex.split(os.environ["BUF"]), "build", "--output", "-#format=json"]
    image = json.loads(subprocess.run(words, cwd=root, stdout=subprocess.PIPE, check=True).stdout)
    packages = {}
    for descriptor in image["file"]:
        if not descriptor["name"].startswith("google/"):
            name = descriptor.get("package", "")
            File(descriptor).add_to(packages.setdefault(name, Package(name)))
    return packages


class Package:
    def __init__(self, name):
        self.name, self.services, self.types, self.words = name, [], [], []


class Thing:
    """Whatever has a name and a comment; what it holds depends on what it is."""

    def __init__(self, descriptor, name, comment, line):
        self.descriptor, self.name, self.comment, self.line = descriptor, name, comment, line
        self.short = descriptor["name"]


class File:
    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.places = {tuple(place.get("path", ())): place for place in descriptor["sourceCodeInfo"]["location"]}

    def add_to(self, package):
        services = self.things(SERVICE, self.descriptor.get("service", []), (), package.name)
        for service in services:
            service.rpcs = self.things(RPC, service.descriptor["method"], service.path, service.name)
        types = self.enums(self.descriptor.get("enumType", []), ENUM, (), package.name)
        types += self.messages(self.descriptor.get("messageType", []), MESSAGE, (), package.name)
        package.services += services
        package.types += sorted(types, key=lambda one: one.line)
        # What stands alone before anything at the top belongs to no thing but to the whole.
        for path, place in self.places.items():
            if len(path) == 2:
                package.words += place.get("leadingDetachedComments", [])

    def things(self, kind, descriptors, path, scope):
        return [self.thing(one, (*path, kind, number), scope) for number, one in enumerate(descriptors)]

    def thing(self, descriptor, path, scope):
        place = self.places.get(path, {"span": [0]})
        comment = place.get("leadingComments") or place.get("trailingComments") or ""
        thing = Thing(descriptor, f"{scope}.{descriptor['name']}".lstrip("."), comment, place["span"][0])
        thing.path = path
        return thing

    def enums(self, descriptors, kind, path, scope):
        found = self.things(kind, descriptors, path, scope)
        for enum in found:
            enum.values = self.things(VALUE, enum.descriptor["value"], enum.path, enum.name)
        return found

    def messages(self, descriptors, kind, path, scope):
        """Messages and, each after its own, the messages nested in them."""
        found = []
        for message in self.things(kind, descriptors, path, scope):
            message.fields = self.things(FIELD, message.descriptor.get("field", []), message.path, message.name)
            message.oneofs = self.things(ONEOF, message.descriptor.get("oneofDecl", []), message.path, message.name)
            nested = self.messages(message.descriptor.get("nestedType", []), NESTED, message.path, message.name)
            entries = [one for one in nested if one.descriptor.get("options", {}).get("mapEntry")]
            message.maps = {one.name: one for one in entries}
            found += [message, *(one for one in nested if one not in entries)]
        return found
