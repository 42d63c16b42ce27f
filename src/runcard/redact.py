"""Take secrets out of what is about to be recorded: by name and by shape, once, before the journal.

What is replaced becomes `REDACTED` and is counted; numbers and booleans stay, but under a password or a pin.
When the redactor itself fails on a field, the whole field becomes `REDACTED`: better a hole than a leak.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runcard._secret_names import OPEN, PASSWORD, is_switch
from runcard._secret_shapes import REDACTED, assignments, is_placeholder, level, locators, shapes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from runcard.values import Json

__all__ = ["REDACTED", "Redactor"]


class Redactor:
    """Finds secrets in trees, texts, command lines, URLs and patches.

    Args:
        keep: Names whose values are never redacted (the setting ``redact_keep``), in any case of letters.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        self._keep = frozenset(name.lower() for name in keep)

    def tree(self, value: Json) -> tuple[Json, int]:
        """A copy of a strict JSON tree without its secrets, and how many were replaced, keys included."""
        try:
            return self._walk(value)
        except Exception:  # our own failure must not let a secret through
            return REDACTED, 1

    def text(self, text: str) -> tuple[str, int]:
        """Running text (an exception's message, a note, a tag) without its secrets, and how many were replaced."""
        if not _WORTH_A_LOOK(text):
            return text, 0
        try:
            if self._keep:
                text, kept = self._set_aside(text)
            else:
                kept = []
            text, found = _clean(text)
            for index, original in enumerate(kept):
                text = text.replace(f"\0{index}\0", original)
        except Exception:  # our own failure must not let a secret through
            return REDACTED, 1
        return text, found

    def argv(self, argv: Sequence[str]) -> tuple[list[str], int]:
        """A command line without its secrets: ``--token abc``, ``--token=abc``, ``API_KEY=abc``, ``-u me:abc``."""
        try:
            return self._arguments(argv)
        except Exception:  # our own failure must not let a secret through
            return [REDACTED] * len(argv), len(argv)

    def url(self, url: str) -> str:
        """A URL without user information and without the secret values of its query; ``ssh://git@`` keeps its user."""
        try:
            clean = _clean(url)[0]
            return _MISWRITTEN.sub(r"\1", clean.replace(f"://{REDACTED}@", "://"))
        except Exception:  # our own failure must not let a secret through
            return REDACTED

    def name(self, name: str) -> str:
        """The name of a metric or an artifact without a secret in it."""
        return self.text(name)[0]

    def patch(self, patch: bytes) -> tuple[bytes, bool, list[str]]:
        """A ``git diff --binary`` patch without secrets that ``git apply`` still takes.

        In an added line the secret is replaced. A file with a secret in a context or removed line is left
        out, for a changed context would not apply.

        Returns:
            The patch, whether it is now incomplete, and the paths of the files left out.
        """
        from runcard._secret_patch import clean_patch

        try:
            return clean_patch(patch)
        except Exception:  # our own failure must not let a secret through
            return b"", True, []

    def scan(self, data: bytes) -> bool:
        """Whether the content of a file holds a secret; a failure to tell counts as one."""
        from runcard._secret_patch import clean_code

        try:
            return clean_code(data.decode("latin-1"))[1] > 0
        except Exception:  # our own failure must not let a secret through
            return True

    def _walk(self, value: Json) -> tuple[Json, int]:
        kind = type(value)
        if kind is str:
            return self.text(value)  # type: ignore[arg-type] # `kind` says it is a str
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list):
            return self._list(value)
        return value, 0

    def _mapping(self, mapping: dict[str, Json]) -> tuple[Json, int]:
        if len(mapping) == 1:
            (mark, held), *_ = mapping.items()
            if mark == "$pairs" and isinstance(held, list):
                told = [self._pair(item) for item in held]
                return {mark: [pair for pair, _ in told]}, sum(count for _, count in told)
            if mark == "$bytes" and isinstance(held, dict) and self._hides(held.get("head")):
                return {mark: {**held, "sha256": None, "head": REDACTED}}, 1
        clean: dict[str, Json] = {}
        found = 0
        for key, value in mapping.items():
            name, count = self.text(key)
            while name in clean:  # two keys that differed in their secrets alone
                name += "'"
            clean[name], inner = self._named(key, value)
            found += count + inner
        named = mapping.get("name", mapping.get("key"))
        if "value" in mapping and isinstance(named, str):  # {"name": "HF_TOKEN", "value": …}
            clean["value"], inner = self._named(named, mapping["value"])
            found += inner
        return clean, found

    def _named(self, name: str, value: Json) -> tuple[Json, int]:
        """What stands under a name: replaced when the name is a secret's, searched when not."""
        kind = type(value)
        if kind is float or kind is int or kind is bool or value is None:
            if value is None or level(name) != PASSWORD or name.lower() in self._keep:
                return value, 0
            return REDACTED, 1
        if name.lower() in self._keep:
            return (value, 0) if isinstance(value, str) else self._walk(value)
        secrecy = level(name)
        if secrecy == OPEN or value in ("", REDACTED):
            return self._walk(value)
        if isinstance(value, str):
            return (value, 0) if _REFERENCE.fullmatch(value) else (REDACTED, 1)
        return (REDACTED, 1) if _holds_text(value, secrecy) else self._walk(value)

    def _list(self, items: list[Json]) -> tuple[Json, int]:
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) == len(items) and any(text[:1] == "-" for text in texts):
            arguments, found = self._arguments(texts)
            return [*arguments], found
        pairs = bool(items) and all(_is_pair(item) for item in items)  # as `[("HF_TOKEN", …), …]`
        told = [self._pair(item) if pairs else self._walk(item) for item in items]
        return [item for item, _ in told], sum(count for _, count in told)

    def _pair(self, item: Json) -> tuple[Json, int]:
        """A name and its value as a list of two."""
        if not isinstance(item, list) or not _is_pair(item):
            return self._walk(item)
        name, found = self.text(str(item[0]))
        value, inner = self._named(str(item[0]), item[1])
        return [name, value], found + inner

    def _hides(self, head: Json) -> bool:
        """Whether the first bytes of a `$bytes` mark hold a secret in plain sight of whoever reads hexadecimal."""
        return isinstance(head, str) and self.text(bytes.fromhex(head).decode("latin-1"))[1] > 0

    def _arguments(self, argv: Sequence[str]) -> tuple[list[str], int]:
        clean: list[str] = []
        found = 0
        awaited = OPEN
        program = argv[0].replace("\\", "/").rsplit("/", 1)[-1] if argv else ""
        for index, argument in enumerate(argv):
            if awaited and not argument.startswith("--") and not is_placeholder(argument):
                number = awaited != PASSWORD and _NUMERIC.fullmatch(argument)
                clean.append(argument if number else REDACTED)
                found += not number
                awaited = OPEN
                continue
            awaited = OPEN
            shown, count = self._argument(argument)
            if not count and (index or argument[:1] == "-"):
                flag = argument.lstrip("-")
                if argument in _PROGRAM_FLAGS.get(program, ()):
                    awaited = PASSWORD
                elif program.startswith("mysql") and argument.startswith("-p") and len(argument) > 2:
                    shown, count = "-p" + REDACTED, 1
                elif program == "curl" and (told := _CURL_USER.fullmatch(argument)):
                    shown, count = told[1] + REDACTED, 1
                elif argument[:1] == "-" and "=" not in flag and flag.lower() not in self._keep and not is_switch(flag):
                    awaited = level(flag)
            clean.append(shown)
            found += count
        return clean, found

    def _argument(self, argument: str) -> tuple[str, int]:
        name, equals, value = argument.partition("=")
        bare = name.lstrip("-+~")
        if equals and _NAME.fullmatch(bare):
            if bare.lower() in self._keep:
                return argument, 0
            secrecy = level(bare)
            if secrecy and not is_placeholder(value):
                if secrecy != PASSWORD and _NUMERIC.fullmatch(value):
                    return argument, 0
                return f"{name}={REDACTED}", 1
        return self.text(argument)

    def _set_aside(self, text: str) -> tuple[str, list[str]]:
        """Take ``name=value`` of the kept names out of a text while the rest is searched."""
        kept: list[str] = []
        if "\0" in text:
            return text, kept  # our own place marker would be ambiguous

        def aside(match: re.Match[str]) -> str:
            if match["name"].lower() not in self._keep:
                return match[0]
            kept.append(match[0])
            return f"\0{len(kept) - 1}\0"

        return _KEPT.sub(aside, text), kept


_MISWRITTEN = re.compile(
    # A user and password where no URL has them: without slashes (``wandb:me:secret@host``), or with a character in the
    # password that should have been escaped (``http://me:sec/ret@host``, a "port" that is no number).
    r"^([A-Za-z][\w+.-]*:(?:[A-Za-z][\w+.-]*:(?=//))?+(?://)?+)(?![/.~\[])[^/@?#]*:(?!\d+(?:[/?#]|$)).*@"
)


def _clean(text: str) -> tuple[str, int]:
    text, by_shape = shapes(text)
    text, in_urls = locators(text)
    text, by_name = assignments(text)
    return text, by_shape + in_urls + by_name


def _is_pair(item: Json) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _holds_text(value: Json, secrecy: int) -> bool:
    """Whether a container under a secret name holds anything that could be the secret."""
    if isinstance(value, dict):
        if len(value) == 1 and ("$float" in value or "$int" in value):
            return secrecy == PASSWORD
        return any(_holds_text(inner, secrecy) for inner in value.values())
    if isinstance(value, list):
        return any(_holds_text(inner, secrecy) for inner in value)
    if isinstance(value, str):
        return value not in ("", REDACTED)
    return value is not None and secrecy == PASSWORD


# What every secret in a text has: a separator, a flag, a scheme, or the characters of a token in one run.
_WORTH_A_LOOK = re.compile(
    r"[=:]|-[A-Za-z]|[A-Za-z0-9_-]{14}|\([\"']|[Bb]earer |[Bb]asic |machine |eyJ|ya29|SG\.| key|assword "
).search
_REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.:]{0,80}\}")
_NAME = re.compile(r"[A-Za-z_][\w./-]{0,200}")
_NUMERIC = re.compile(r"[+-]?\d[\d_]*+(?:\.[\d_]*+)?(?:[eE][+-]?\d+)?|(?i:true|false|none|null)")
_KEPT = re.compile(
    r"""(?<![\w.-])(?P<name>[A-Za-z_][\w.-]*+)["']?\s{0,2}[=: ]\s{0,2}(?:"[^"\n]*+"?|'[^'\n]*+'?|[^\s,;&)}\]]++)"""
)
_CURL_USER = re.compile(r"(-u|--user=|--proxy-user=)[^:]{0,200}:.+", re.DOTALL)
# Short flags that mean a password to a known program; anywhere else `-p` is a port, a partition or a path.
_PROGRAM_FLAGS = {
    "sshpass": ("-p",),
    "redis-cli": ("-a",),
    "mongo": ("-p",),
    "mongosh": ("-p",),
    "mongodump": ("-p",),
    "curl": ("-u", "--user", "--proxy-user"),
    "docker": ("-p",),
}
