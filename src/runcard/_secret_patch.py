"""Secrets in patches and source files, where most of what follows a secret's name is an expression, not a value.

Everything is read as Latin-1, which gives back every byte as it came.
"""

from __future__ import annotations

import re
from itertools import pairwise

from runcard._secret_shapes import REDACTED, assignments, locators, shapes


def clean_code(text: str) -> tuple[str, int]:
    """Source text without the secrets that are written out in it, and how many were replaced."""
    text, by_shape = shapes(text)
    text, in_urls = locators(text, code=True)
    text, by_name = assignments(text, code=True)
    return text, by_shape + in_urls + by_name


def clean_patch(patch: bytes) -> tuple[bytes, bool, list[str]]:
    """See `runcard.redact.Redactor.patch`."""
    text = patch.decode("latin-1")
    kept: list[str] = []
    left_out: list[str] = []
    incomplete = False
    for section in _sections(text):
        clean, found = _clean_section(section)
        if clean is None:
            left_out.append(shapes(_path(section))[0])
        else:
            kept.append(clean)
        incomplete = incomplete or found
    return "".join(kept).encode("latin-1"), incomplete, left_out


def _sections(text: str) -> list[str]:
    """One text a file. A hunk's own lines begin with a sign, so `diff --git` at a line's start is a header."""
    starts = [match.start() for match in _HEADER.finditer(text)]
    if not starts:
        return [text] if text else []
    bounds = [0, *starts, len(text)] if starts[0] else [*starts, len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def _clean_section(section: str) -> tuple[str | None, bool]:
    """The section without secrets (None: leave the file out), and whether anything was taken out."""
    header, hunks = _split(section)
    if shapes(header)[1]:
        return None, True  # a secret in the file's own name
    if not hunks or header.rstrip("\n").endswith("GIT binary patch"):
        return section, False
    lines = hunks.split("\n")
    found = in_key = False
    for index, line in enumerate(lines):
        sign, content = line[:1], line[1:]
        if sign == "@":
            lines[index] = _clean_hunk_header(line)
            in_key = False
            continue
        inside = in_key or ("PRIVATE KEY" in content and _KEY_BEGINS.search(content) is not None)
        if inside:
            in_key = _KEY_ENDS.search(content) is None and (not in_key or _KEY_BODY.fullmatch(content) is not None)
            clean, count = _hide_key(content), 1
        else:
            clean, count = clean_code(content)
        if not count:
            continue
        if sign != "+":
            return None, True
        lines[index] = "+" + clean
        found = True
    return header + "\n".join(lines), found


def _split(section: str) -> tuple[str, str]:
    """A file's header and its hunks; for a binary file, the header ends with the words that say so."""
    match = _HUNKS.search(section)
    if match is None:
        return section, ""
    at = match.start() if section[match.start()] == "@" else match.end()
    return section[:at], section[at:]


def _clean_hunk_header(line: str) -> str:
    """`@@ -1 +1 @@ def f():`; git ignores what follows the numbers, so a secret there costs nothing."""
    end = line.find("@@", 2) + 2
    return line[:end] if clean_code(line[end:])[1] else line


def _hide_key(content: str) -> str:
    """One line of a private key; what stands before and after the key on the same line stays."""
    before = _KEY_BEGINS.search(content)
    if before is not None:
        clean, count = shapes(content)
        return clean if count else REDACTED
    after = _KEY_ENDS.search(content)
    return REDACTED + (content[after.end() :] if after else "") + ("\r" if content.endswith("\r") and not after else "")


def _path(section: str) -> str:
    """The path of the file that a section is about, for people."""
    for expression in _PATHS:
        match = expression.search(section)
        if match is not None and match[1] != "/dev/null":
            return _unquoted(match[1].rstrip("\t"))
    return "(unknown)"


def _unquoted(path: str) -> str:
    if path.startswith('"'):
        path = _OCTAL.sub(lambda match: chr(int(match[1], 8)), path[1:-1].replace('\\"', '"')).replace("\\\\", "\\")
    path = path[2:] if path[1:2] == "/" else path
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


_HEADER = re.compile(r"^diff --(?:git|cc|combined) ", re.MULTILINE)
_HUNKS = re.compile(r"^@@ |^GIT binary patch\n", re.MULTILINE)
_PATHS = (
    re.compile(r"^\+\+\+ ([^\r\n]+)", re.MULTILINE),
    re.compile(r"^--- ([^\r\n]+)", re.MULTILINE),
    re.compile(r"^diff --git (?:\"?a/.{0,4000}?\"?) (\"?b/[^\r\n]+)", re.MULTILINE),
)
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?!.{0,20000}-----END)")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
_KEY_BODY = re.compile(r"[\s#/*\"'+]*[A-Za-z0-9+/=:, -]*(?:\\n)?[\s\"'+,\\]*")
