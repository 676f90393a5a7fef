"""Checks the size of the Rust code: files, functions and repeated lines.

    python3 -m checks.size           (`make size`)
    python3 -m checks.size --list    also lists the ten longest files and functions

Counts production code: not tests/, not `#[cfg(test)]` modules. No file may have more than 400 lines; the median function
may have at most 8 lines and the 99th percentile at most 50, from `fn` to its closing brace; at most 4 pairs of places may
share six consecutive lines letter for letter, where blank lines, comments, `use` declarations and lines of punctuation are
skipped. Reads what rustfmt writes: a block ends with a brace at the indentation of its first line.
"""

from __future__ import annotations

import collections
import itertools
import pathlib
import re
import sys
from typing import NamedTuple

from checks.harness.base import ROOT, say, tracked, usage
from checks.harness.source import rust_code

FILE_LIMIT = 400
MEDIAN_LIMIT = 8
PERCENTILE_LIMIT = 50
RUN = 6
PAIRS_LIMIT = 4

FUNCTION = re.compile(r'(\s*)(?:(?:pub(?:\([^)]*\))?|default|const|async|unsafe|extern "[^"]*") )*fn (\w+)')
TEST_MODULE = re.compile(r"\s*(?:pub(?:\([^)]*\))? )?mod (\w+)\s*([;{])")


class Line(NamedTuple):
    """A line of production code: its number, its text, and the same with comments and strings blanked out."""

    number: int
    text: str
    code: str


class Function(NamedTuple):
    """A function and its length in lines."""

    path: pathlib.Path
    line: int
    name: str
    length: int


class Pair(NamedTuple):
    """Two places that share lines."""

    first: tuple[pathlib.Path, int]
    second: tuple[pathlib.Path, int]
    length: int


def block_end(code: list[str], start: int) -> int | None:
    """The index of the last line of the block that begins at a line; None for a declaration without a block."""
    indent = re.match(r"\s*", code[start])[0]  # type: ignore[index]
    for at in range(start, len(code)):
        line = code[at].rstrip()
        # The head ends at its first line, or at one that closes the parameters or a where clause.
        is_head_end = at == start or re.match(rf"{indent}\S", line)
        if is_head_end and line.endswith(";"):
            return None
        if at == start and line.endswith("}") and line.count("{") == line.count("}"):
            return at
        if re.match(rf"{indent}\}}", line):
            return at
        if at > start and line.endswith("{}") and re.match(rf"{indent}\S", line):
            return at
    return None


def production(text: str) -> tuple[list[Line], set[str]]:
    """The lines of a file outside its test modules, and the names of the test modules in other files."""
    lines = text.removesuffix("\n").split("\n")
    code = rust_code(text.removesuffix("\n"))
    kept, outside, at = [], set(), 0
    while at < len(lines):
        if code[at].strip() == "#[cfg(test)]":
            # Other attributes may follow.
            module = next((i for i in range(at + 1, len(lines)) if not code[i].strip().startswith("#[")), at)
            found = TEST_MODULE.match(code[module])
            if found and found[2] == ";":
                outside.add(found[1])
                at = module + 1
                continue
            if found:
                end = block_end(code, module)
                at = (module if end is None else end) + 1
                continue
        kept.append(Line(at + 1, lines[at], code[at]))
        at += 1
    return kept, outside


def production_files() -> dict[pathlib.Path, list[Line]]:
    """The production lines of all Rust files that have some."""
    files, tests = {}, set()
    for path in tracked("*.rs"):
        if "tests" in path.parts:
            continue
        lines, outside = production((ROOT / path).read_text())
        files[path] = lines
        folder = path.parent if path.stem in ("mod", "lib", "main") else path.with_suffix("")
        for name in outside:
            tests |= {folder / f"{name}.rs", folder / name}
    return {path: lines for path, lines in files.items() if path not in tests and not tests & set(path.parents)}


def functions(path: pathlib.Path, lines: list[Line]) -> list[Function]:
    code = [line.code for line in lines]
    found = []
    for at, line in enumerate(code):
        match = FUNCTION.match(line)
        if match:
            end = block_end(code, at)
            if end is not None:
                found.append(Function(path, lines[at].number, match[2], end - at + 1))
    return found


def significant(lines: list[Line]) -> list[Line]:
    """The lines that count as repeated: no blank lines, comments, `use` declarations or punctuation."""
    kept, in_use = [], False
    for line in lines:
        code = line.code.strip()
        in_use = in_use or bool(re.match(r"(?:pub(?:\([^)]*\))? )?use ", code))
        if not in_use and re.search(r"\w", code):
            kept.append(line)
        if in_use and code.endswith(";"):
            in_use = False
    return kept


def repeated(files: dict[pathlib.Path, list[Line]]) -> list[Pair]:
    """The pairs of places that share at least RUN lines; a longer run is one pair."""
    kept = {path: significant(lines) for path, lines in files.items()}
    text = {path: [line.text.strip() for line in lines] for path, lines in kept.items()}
    windows = collections.defaultdict(list)
    for path, lines in text.items():
        for at in range(len(lines) - RUN + 1):
            windows[tuple(lines[at : at + RUN])].append((path, at))
    pairs = []
    for places in windows.values():
        for (one, i), (other, j) in itertools.combinations(places, 2):
            if i > 0 and j > 0 and text[one][i - 1] == text[other][j - 1]:
                continue
            if one == other and j - i < RUN:
                continue
            shared = zip(text[one][i:], text[other][j:])
            length = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], shared))
            pairs.append(Pair((one, kept[one][i].number), (other, kept[other][j].number), length))
    return pairs


def self_test() -> None:
    """Plants examples whose sizes are known."""
    text = """\
use a::{
    b,
};

/// Not fn commented() {
fn short() {}

trait T {
    fn declared(
        &self,
    ) -> u8;
    fn long(&self) -> &str {
        let text = "
}
";
        text
    }
}

#[cfg(test)]
mod tests {
    fn test() {
    }
}

#[cfg(test)]
mod others;
"""
    path = pathlib.Path("a.rs")
    lines, outside = production(text)
    assert (len(lines), outside) == (20, {"others"}), f"{len(lines)} lines, {outside}"
    lengths = {one.name: one.length for one in functions(path, lines)}
    assert lengths == {"short": 1, "long": 6}, str(lengths)
    body = [f"let x{number} = {number};" for number in range(8)]
    one, _ = production("\n".join(["a();", *body[:4], "// Why.", "", "}", *body[4:], "b();"]))
    other, _ = production("\n".join(["c();", *body, "d();"]))
    found = repeated({path: one, pathlib.Path("b.rs"): other})
    assert [pair.length for pair in found] == [8], str(found)
    assert not repeated({path: one, pathlib.Path("b.rs"): other[5:]}), "less than six lines were found"


def main() -> None:
    if sys.argv[1:] not in ([], ["--list"]):
        usage(__doc__)
    self_test()
    files = production_files()
    sizes = sorted(((len(lines), path) for path, lines in files.items()), reverse=True)
    all_functions = [one for path, lines in files.items() for one in functions(path, lines)]
    all_functions.sort(key=lambda one: one.length)
    long_files = [(size, path) for size, path in sizes if size > FILE_LIMIT]
    median = all_functions[len(all_functions) // 2].length
    percentile = all_functions[int(len(all_functions) * 0.99)].length
    pairs = repeated(files)

    for size, path in sizes[:10] if sys.argv[1:] else long_files:
        say(f"{path}: {size} lines")
    if sys.argv[1:]:
        for one in all_functions[:-11:-1]:
            say(f"{one.path}:{one.line}: {one.name}: {one.length} lines")
    for pair in pairs:
        (one, i), (other, j) = pair.first, pair.second
        say(f"{one}:{i} and {other}:{j} share {pair.length} lines")
    results = [
        (not long_files, f"{len(long_files)} of {len(files)} files have more than {FILE_LIMIT} lines"),
        (median <= MEDIAN_LIMIT and percentile <= PERCENTILE_LIMIT,
         f"{len(all_functions)} functions: the median has {median} lines, at most {MEDIAN_LIMIT}; the 99th percentile "
         f"{percentile}, at most {PERCENTILE_LIMIT}"),
        (len(pairs) <= PAIRS_LIMIT, f"{len(pairs)} pairs of places share {RUN} lines or more; at most {PAIRS_LIMIT}"),
    ]
    say("")
    for holds, text in results:
        say(f"{'ok' if holds else 'FAILED'}: {text}")
    sys.exit(0 if all(holds for holds, _ in results) else 1)


if __name__ == "__main__":
    main()
