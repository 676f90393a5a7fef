"""Checks the language of the repository: plain English, as CONTRIBUTING.md describes it.

    python3 -m checks.language           (`make language`)
    python3 -m checks.language --list    also lists each doc comment that begins with a question word

Fails when more than 3 % of the doc comments begin with What, Who, Where, Whether or How, counted for Rust alone and for
proto, Python, TypeScript and Java together; when the words of WORDS appear more than 30 times in comments, documentation,
help and messages; and when README.md is longer than 130 lines. Prints each of these words with its place.

Words count in comments and strings of programming languages, and anywhere in other files (documentation, shell, YAML,
TOML, HTML). Generated and vendored files do not count (GENERATED), nor do strings that are data (DATA).
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from checks.harness.base import ROOT, say, tracked, usage
from checks.harness.source import Piece, is_python, pieces

QUESTION_LIMIT = 0.03
WORD_LIMIT = 30
README_LIMIT = 130

QUESTION = re.compile(r"(?:What|Who|Where|Whether|How)\b", re.IGNORECASE)
WORDS = re.compile(r"\b(?:told|whoever|somebody|nobody|anew|gone\s+by)\b", re.IGNORECASE)

GENERATED = re.compile(
    r"""web/dist/            # built from web/src
    |proto/google/           # vendored
    |docs/API\.md$           # written from proto/, where its words count
    |LICENSE$
    |checks/language\.py$    # quotes the words
    |.*(?:\.lock|go\.sum|package-lock\.json)$
    |.*\.(?:png|ico|woff2?|jar|bin)$""",
    re.VERBOSE,
)
# Strings that are data and no prose.
DATA = [
    # One word alone: the id or name of a user in a test, such as "nobody".
    re.compile(r"""^(?:[rbcf]*)(["'`])\w+\1$"""),
]
# The lines of a doc comment, by language. Java and TypeScript have /** … */ instead.
MARKER = re.compile(r"\s*(///(?!/)|//!|//)\s?(.*)")
PROTO_DECLARATION = re.compile(
    r"\s*(?:package|service|rpc|message|enum|oneof|optional|repeated|map<|[\w.]+\s+\w+\s*=|[A-Z_0-9]+\s*=)"
)


class Place(NamedTuple):
    """A line of a file and its text."""

    path: pathlib.Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text.strip()[:160]}"


def files() -> Iterator[tuple[pathlib.Path, str]]:
    for path in tracked():
        if not GENERATED.match(str(path)):
            try:
                yield path, (ROOT / path).read_text()
            except UnicodeDecodeError:
                continue


def words_in(path: pathlib.Path, text: str) -> list[Place]:
    """The places of a file that use one of the words."""
    found = []
    for piece in pieces(path, text):
        if piece.kind == "string" and any(data.match(piece.text) for data in DATA):
            continue
        for match in WORDS.finditer(piece.text):
            line = piece.line + piece.text.count("\n", 0, match.start())
            found.append(Place(path, line, text.split("\n")[line - 1]))
    return found


def doc_comments(path: pathlib.Path, text: str) -> list[Place]:
    """The doc comments of a file, each as the place and text of its first line."""
    if path.suffix == ".rs":
        return runs(path, text, lambda marker, _: marker in ("///", "//!"))
    if path.suffix == ".proto":
        return runs(path, text, lambda _, following: bool(PROTO_DECLARATION.match(following)))
    if is_python(path, text):
        return docstrings(path, text)
    if path.suffix in (".ts", ".tsx", ".java"):
        comments = [piece for piece in pieces(path, text) if piece.text.startswith("/**")]
        return [Place(path, piece.line, block_text(piece)) for piece in comments]
    return []


def runs(path: pathlib.Path, text: str, is_doc: Callable[[str | None, str], bool]) -> list[Place]:
    """The runs of line comments with one marker. `is_doc` decides by the marker and the line that follows."""
    # A comment inside a string, or after code, is no line of a run.
    comments = {piece.line: piece.text for piece in pieces(path, text) if piece.kind == "comment"}
    lines = text.split("\n")
    found: list[Place] = []
    current: Place | None = None
    last = None
    for number, line in enumerate(lines, start=1):
        match = MARKER.fullmatch(line)
        marker = match[1] if match and number in comments else None
        if marker != last and current:
            if is_doc(last, line):
                found.append(current)
            current = None
        if match and marker and not current and match[2].strip():
            current = Place(path, number, match[2])
        last = marker
    return found


def docstrings(path: pathlib.Path, text: str) -> list[Place]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(text)):
        documentation = ast.get_docstring(node) if isinstance(node, kinds) else None
        if documentation and isinstance(node, kinds):
            found.append(Place(path, node.body[0].lineno, documentation.split("\n")[0]))
    return found


def block_text(piece: Piece) -> str:
    return re.sub(r"\s*\*\s?", " ", piece.text.removeprefix("/**").removesuffix("*/")).strip()


def self_test() -> None:
    """Plants examples, each of which must be found, and counter-examples, which must not."""
    for name, text, expected in (
        ("a.rs", '/// Was told.\nlet told = "x";', 1),
        ("a.rs", 'let lifetime: &\'a str = "it is\ngone by";', 1),
        ("a.rs", 'fail(r#"Nobody "knows" it"#); // anew', 2),
        ("a.rs", "let quote = '\"'; let told = 1;", 0),
        ("a.rs", 'user("nobody"); let nobody = 1;', 0),
        ("a.rs", "fn f<'a>(told: &'a str) {}", 0),
        ("a.go", "x := 1 // Whoever asks", 1),
        ("a.ts", "const told = `somebody is typing ${told.join()}`;", 1),
        ("a.tsx", "const a = <p>Nobody <b>is</b> here {told} anew</p>;", 1),
        ("a.rs", 'format!("{told} and told {told:?}")', 1),
        ("a.proto", "// Told again.\nmessage M {}", 1),
        ("a.sql", "SELECT told -- told\nFROM t WHERE x = 'anew';", 1),
        ("a.py", 'told = 1\nprint("nobody is here")  # anew', 2),
        ("a.yml", "a: 1 # told", 1),
        ("a.md", "It is gone\nby.", 1),
    ):
        found = words_in(pathlib.Path(name), text)
        assert len(found) == expected, f"{len(found)} words found instead of {expected} in {name}: {text}"
    for name, text, expected in (
        ("a.rs", "//! What this is.\n\n/// Returns it.\n/// What else.\nfn f() {}\n// How.\n", [True, False]),
        ("a.rs", 'const X: &str = "\n/// Where it is.\n";\n', []),
        ("a.proto", "// Who asks.\nmessage M {\n  // What.\n\n  // The id.\n  string id = 1; // How.\n}\n", [True, False]),
        ("a.py", '"""How it is."""\ndef f():\n    """Returns it."""\n', [True, False]),
        ("a.ts", "/**\n * Whether it is.\n */\nexport const a = 1;\n", [True]),
    ):
        begins = [bool(QUESTION.match(place.text)) for place in doc_comments(pathlib.Path(name), text)]
        assert begins == expected, f"{begins} instead of {expected} in {name}: {text}"


def share_of_questions(languages: str, comments: list[Place]) -> tuple[bool, str]:
    questions = sum(bool(QUESTION.match(place.text)) for place in comments)
    share = questions / max(len(comments), 1)
    return share <= QUESTION_LIMIT, (
        f"{questions} of {len(comments)} doc comments of {languages} begin with What, Who, Where, Whether or How: "
        f"{share:.1%}; at most {QUESTION_LIMIT:.0%} may (--list lists them)"
    )


def main() -> None:
    if sys.argv[1:] not in ([], ["--list"]):
        usage(__doc__)
    self_test()
    comments: list[Place] = []
    words: list[Place] = []
    for path, text in files():
        comments += doc_comments(path, text)
        words += words_in(path, text)
    questions = [place for place in comments if QUESTION.match(place.text)]
    for place in words:
        say(str(place))
    if sys.argv[1:]:
        say("\nDoc comments that begin with a question word:")
        for place in questions:
            say(str(place))
    length = len((ROOT / "README.md").read_text().splitlines())
    results = [
        share_of_questions("Rust", [place for place in comments if place.path.suffix == ".rs"]),
        share_of_questions("other languages", [place for place in comments if place.path.suffix != ".rs"]),
        (len(words) <= WORD_LIMIT,
         f"{len(words)} uses of told, whoever, somebody, nobody, anew, gone by; at most {WORD_LIMIT}"),
        (length <= README_LIMIT, f"README.md has {length} lines; at most {README_LIMIT}"),
    ]
    say("")
    for holds, text in results:
        say(f"{'ok' if holds else 'FAILED'}: {text}")
    sys.exit(0 if all(holds for holds, _ in results) else 1)


if __name__ == "__main__":
    main()
