"""Source text by kind: the comments, strings and code of each language here, at their lines."""

from __future__ import annotations

import io
import pathlib
import re
import tokenize
from typing import NamedTuple

# Each alternative is a token; what none matches is code. Order matters: a comment inside a string is none.
RUST = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<raw>\b(?:b|c)?r(?P<hashes>\#*)".*?"(?P=hashes))
    |(?P<string>\b(?:b|c)"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*")
    |(?P<char>\b(?:b)?'(?:\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.)|[^'\\\n])'|'(?:\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.)|[^'\\\n])')""",
    re.DOTALL | re.VERBOSE,
)
C_LIKE = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<raw>\"\"\".*?\"\"\"|`(?:\\.|[^`\\])*`)
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL | re.VERBOSE,
)
SQL = re.compile(r"(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<string>'(?:''|[^'])*')", re.DOTALL)
LANGUAGES = {
    ".rs": RUST, ".go": C_LIKE, ".java": C_LIKE, ".js": C_LIKE, ".mjs": C_LIKE, ".proto": C_LIKE, ".sql": SQL, ".ts": C_LIKE,
    ".tsx": C_LIKE,
}


# Expressions inside a string, which are code.
INTERPOLATION = {
    ".rs": re.compile(r"\{\w+(?::[^{}]*)?\}"), ".ts": re.compile(r"\$\{[^{}]*\}"), ".tsx": re.compile(r"\$\{[^{}]*\}"),
    ".py": re.compile(r"(?<!\{)\{[^{}\n]*\}"),
}
# Text between the tags of JSX.
JSX_TEXT = re.compile(r">([^<>{}();=]*\w[^<>{}();=]*)<")


class Piece(NamedTuple):
    """A comment or a string, with the number of its first line."""

    kind: str
    line: int
    text: str


def pieces(path: pathlib.Path, text: str) -> list[Piece]:
    """The comments and strings of a file. All text of a file in no programming language is one comment."""
    if is_python(path, text):
        return python_pieces(text)
    language = LANGUAGES.get(path.suffix)
    if language is None:
        return [Piece("comment", 1, text)]
    found, line, at = [], 1, 0
    for match in language.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if match["comment"]:
            found.append(Piece("comment", line, match[0]))
        elif match.lastgroup != "char":
            found.append(Piece("string", line, without_expressions(path.suffix, match[0])))
    if path.suffix == ".tsx":
        code = language.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        found += [Piece("string", 1 + code.count("\n", 0, one.start(1)), one[1]) for one in JSX_TEXT.finditer(code)]
    return found


def without_expressions(suffix: str, text: str) -> str:
    expression = INTERPOLATION.get(suffix)
    return expression.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text) if expression else text


def is_python(path: pathlib.Path, text: str) -> bool:
    return path.suffix == ".py" or bool(re.match(r"#!.*\bpython", text))


def python_pieces(text: str) -> list[Piece]:
    names = {tokenize.COMMENT: "comment", tokenize.STRING: "string"}
    # From Python 3.12 on an f-string is several tokens.
    middle = getattr(tokenize, "FSTRING_MIDDLE", None)
    if middle is not None:
        names[middle] = "string"
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        Piece(names[token.type], token.start[0], without_expressions(".py", token.string))
        for token in tokens if token.type in names
    ]


def rust_code(text: str) -> list[str]:
    """The lines of a Rust file with comments, strings and characters blanked out."""
    def blank(match: re.Match[str]) -> str:
        # Quotes stay, so that a line with a string is not empty.
        rest = re.sub(r"[^\n]", " ", match[0])
        return rest if match["comment"] or len(rest) < 2 else f'"{rest[1:-1]}"'

    return RUST.sub(blank, text).split("\n")
