"""Writes docs/API.md from the comments in proto/.

    python3 -m checks.api_docs            fails when docs/API.md differs from proto/ (`make api-docs-check`)
    python3 -m checks.api_docs --write    writes docs/API.md (`make api-docs`)

Each RPC is shown with its own request and response, followed by all other types of its package. It ends with an error where
the page would not render: two headings with one anchor, a list or code in a table. BUF is the command that runs buf.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator

from checks.harness import contract
from checks.harness.base import ROOT, usage
from checks.harness.contract import Declaration, Package

TARGET = ROOT / "docs/API.md"
HEAD = """\
# API

<!-- Generated from the comments in proto/ by `make api-docs`: change those, not this file. -->

All services, RPCs, messages and reasons of [proto/](../proto). A field that is not set is empty, 0 or false; one that
is `optional`, a message or part of a `oneof` distinguishes absent from empty. In JSON, as grpcurl prints it, `user_id` is
`userId` and an `int64` is a string. [ERRORS.md](ERRORS.md) describes how to handle each reason.
"""
# In this order; a new package comes after them.
ORDER = ["parlance.user.v1", "parlance.message.v1", "parlance.error.v1"]
TITLES = {"": "The original contract"}
REASONS = "parlance.error.v1.ErrorReason"
REASON_PREFIX = "ERROR_REASON_"
WELL_KNOWN = "https://protobuf.dev/reference/protobuf/google.protobuf/"
ELSEWHERE = {
    "google.protobuf.Duration": f"{WELL_KNOWN}#duration",
    "google.protobuf.FieldMask": f"{WELL_KNOWN}#field-mask",
    "google.protobuf.Timestamp": f"{WELL_KNOWN}#timestamp",
    "google.rpc.Status": "../proto/google/rpc/status.proto",
}


class Links:
    """The anchors of the page, each of them unique."""

    def __init__(self, packages: list[Package]) -> None:
        self.anchors: dict[str, str] = {}
        self.short: dict[tuple[str, str | None], str] = {}
        self.reasons: dict[str, str] = {}
        for package in packages:
            self.add(package.name or "original")
            for service in package.services:
                self.add(service.name, package, service.short)
                for rpc in service.rpcs:
                    self.add(rpc.name, package, rpc.short)
            for one in package.types:
                self.add(one.name, package, one.short)
                if one.name == REASONS:
                    for value in one.values:
                        reason = value.short.removeprefix(REASON_PREFIX)
                        self.add(value.name, place=f"reason {reason}")
                        self.reasons[reason] = value.name

    def add(self, name: str, package: Package | None = None, short: str | None = None, place: str | None = None) -> None:
        if package and not package.name:
            # Renderers generate an anchor for every heading, also for the other UserService.
            place = f"original {name}"
        place = re.sub(r"[^a-z0-9]+", "-", (place or name).lower())
        if place in self.anchors.values():
            sys.exit(f"{name} would have an anchor that is taken: {place}")
        self.anchors[name] = place
        if package:
            self.short[package.name, short] = name

    def anchor(self, name: str) -> str:
        return f'<a id="{self.anchors[name]}"></a>'

    def to(self, name: str, text: str) -> str:
        if name in ELSEWHERE:
            return f"[{text}]({ELSEWHERE[name]})"
        return f"[{text}](#{self.anchors[name]})"


class Writer:
    """One package, as lines of Markdown."""

    def __init__(self, package: Package, links: Links) -> None:
        self.package, self.links = package, links
        self.lines: list[str] = []
        self.own: dict[str, list[Declaration]] = {}
        for rpc in (rpc for service in package.services for rpc in service.rpcs):
            for one in package.types:
                if one.short in (f"{rpc.short}Request", f"{rpc.short}Response"):
                    self.own.setdefault(rpc.name, []).append(one)
                    self.own[rpc.name] += [more for more in package.types if more.name.startswith(f"{one.name}.")]

    def write(self) -> list[str]:
        title = TITLES.get(self.package.name, self.package.name)
        self.heading("##", self.package.name or "original", title)
        for words in self.package.words:
            self.paragraphs(words)
        for service in self.package.services:
            self.service(service)
        shown = [one for several in self.own.values() for one in several]
        rest = [one for one in self.package.types if one not in shown]
        if rest and self.package.services:
            self.lines += [f"### Types of {title}" if self.package.name else "### Types", ""]
        for one in rest:
            self.heading("####", one.name, self.title(one))
            self.type(one)
        return self.lines

    def heading(self, level: str, name: str, text: str) -> None:
        self.lines += [self.links.anchor(name), "", f"{level} {text}", ""]

    def title(self, one: Declaration) -> str:
        return one.name.removeprefix(f"{self.package.name}.")

    def service(self, service: Declaration) -> None:
        self.heading("###", service.name, service.short)
        self.paragraphs(service.comment)
        self.lines += ["| RPC | takes | returns | |", "|---|---|---|---|"]
        for rpc in service.rpcs:
            first = re.match(r"(?:[^`.]|`[^`]*`|\.(?!\s|$))*\.?", " ".join(rpc.comment.split("\n\n")[0].split()))[0]
            takes, returns = self.ends(rpc)
            self.lines.append(f"| {self.links.to(rpc.name, rpc.short)} | {takes} | {returns} | {self.cell(rpc, first)} |")
        self.lines.append("")
        for rpc in service.rpcs:
            self.heading("####", rpc.name, rpc.short)
            self.lines += ["{} → {}".format(*self.ends(rpc)), ""]
            self.paragraphs(rpc.comment)
            for one in self.own.get(rpc.name, []):
                self.lines += [self.links.anchor(one.name), ""]
                self.type(one, f"**{self.title(one)}.** ")

    def ends(self, rpc: Declaration) -> Iterator[str]:
        """The request and the response of an RPC."""
        for side in ("input", "output"):
            name = rpc.descriptor[f"{side}Type"].lstrip(".")
            stream = "stream of " if rpc.descriptor.get({"input": "client", "output": "server"}[side] + "Streaming") else ""
            yield stream + self.links.to(name, name.rsplit(".")[-1])

    def type(self, one: Declaration, begins: str = "") -> None:
        self.paragraphs(one.comment, begins)
        if hasattr(one, "values"):
            self.lines += ["| | value | |", "|---|---|---|"]
            for value in one.values:
                anchor = self.links.anchor(value.name) if one.name == REASONS else ""
                row = f"| {value.descriptor['number']} | {anchor}`{value.short}` | {self.cell(value)} |"
                self.lines.append(row)
            self.lines.append("")
        elif one.fields:
            self.lines += ["| | field | type | |", "|---|---|---|---|"]
            oneof = None
            for field in one.fields:
                place = None if field.descriptor.get("proto3Optional") else field.descriptor.get("oneofIndex")
                if place != oneof and place is not None:
                    group = one.oneofs[place]
                    self.lines.append(f"| | *{group.short}* | one of | {self.cell(group)} |")
                oneof = place
                name = f"`{field.short}`" if place is None else f"–\u00a0`{field.short}`"
                kind = self.kind(one, field)
                self.lines.append(f"| {field.descriptor['number']} | {name} | {kind} | {self.cell(field)} |")
            self.lines.append("")
        else:
            self.lines += ["No fields.", ""]

    def kind(self, message: Declaration, field: Declaration) -> str:
        descriptor = field.descriptor
        name = descriptor.get("typeName", "").lstrip(".")
        if name in message.maps:
            key, value = (self.scalar(one) for one in message.maps[name].fields)
            return f"map of {key} to {value}"
        kind = self.links.to(name, name.rsplit(".")[-1]) if name else self.scalar(field)
        if descriptor["label"] == "LABEL_REPEATED":
            return f"repeated {kind}"
        return f"optional {kind}" if descriptor.get("proto3Optional") else kind

    @staticmethod
    def scalar(field: Declaration) -> str:
        return f"`{field.descriptor['type'].removeprefix('TYPE_').lower()}`"

    def paragraphs(self, comment: str, begins: str = "") -> None:
        """Adds a comment, whose paragraphs, lists and code are Markdown already."""
        code, first = False, len(self.lines)
        for line in comment.rstrip().split("\n"):
            line = line.removeprefix(" ")
            fence = line.lstrip().startswith("```")
            code ^= fence
            self.lines.append(line if code or fence or line.startswith("    ") else self.text(line))
        self.lines[first] = begins + self.lines[first]
        self.lines.append("")

    def cell(self, declaration: Declaration, text: str | None = None) -> str:
        """A comment in one line of a table."""
        paragraphs = (text or declaration.comment).strip().split("\n\n")
        for line in (text or declaration.comment).split("\n"):
            if re.match(r" *(```|[-*+] |\d+\. |     )", line):
                sys.exit(f"{declaration.name}: a table cannot hold a list or code; move it to the comment of its type")
        text = "<br>".join(self.text(" ".join(one.split())) for one in paragraphs)
        return re.sub(r"(?<!\\)\|", r"\\|", text)

    def text(self, line: str) -> str:
        """Escapes Markdown's characters in prose, and links known names."""
        pieces = re.split(r"(`[^`]*`)", line)
        for place, piece in enumerate(pieces):
            if piece.startswith("`"):
                reason = self.links.reasons.get(piece.strip("`"))
                if reason and self.package.name != REASONS.rsplit(".", 1)[0]:
                    pieces[place] = self.links.to(reason, piece)
            else:
                piece = re.sub(r"(?<=\S)\*|\*(?=\S)|[<~]", lambda found: "\\" + found[0], piece)
                pieces[place] = re.sub(r"(?:[a-z]\w*\.)*[A-Z]\w+", self.known, piece)
        return "".join(pieces)

    def known(self, found: re.Match[str]) -> str:
        """A link, if the word is a declared name and not an ordinary word."""
        word = found[0]
        name = word if "." in word else self.links.short.get((self.package.name, word))
        ordinary = not re.search(r"[a-z][A-Z]", word)
        return word if ordinary or name not in self.links.anchors else self.links.to(name, word)


def contents(packages: Iterable[Package], links: Links) -> Iterator[str]:
    for package in packages:
        yield f"- {links.to(package.name or 'original', TITLES.get(package.name, package.name))}"
        for service in package.services:
            rpcs = ", ".join(links.to(rpc.name, rpc.short) for rpc in service.rpcs)
            yield f"  - {links.to(service.name, service.short)}: {rpcs}"
    yield ""


def main() -> None:
    if sys.argv[1:] not in ([], ["--write"]):
        usage(__doc__)
    if not os.environ.get("BUF"):
        sys.exit("BUF is not set: run make api-docs-check or make api-docs")
    found = contract.read(ROOT)
    rank = {name: place for place, name in enumerate(ORDER)}
    packages = sorted(found.values(), key=lambda one: (rank.get(one.name, len(rank)), one.name))
    links = Links(packages)
    lines = [HEAD, *contents(packages, links)]
    for package in packages:
        lines += Writer(package, links).write()
    wanted = "\n".join(lines).rstrip() + "\n"
    current = TARGET.read_text() if TARGET.exists() else ""
    if sys.argv[1:]:
        TARGET.write_text(wanted)
    elif current != wanted:
        print("".join(difflib.unified_diff(current.splitlines(True), wanted.splitlines(True), "docs/API.md", "proto/")))
        sys.exit("docs/API.md differs from proto/: run make api-docs, and commit it")


if __name__ == "__main__":
    main()
