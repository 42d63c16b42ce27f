r"""Secrets in running text: by their own shape (``ghp_…``, PEM blocks) and by the name before them (``password=…``).

Every expression is linear: each either starts at a literal that its own match consumes, or uses possessive
repeats (``*+``) behind a look-behind that lets a run of characters be tried once.
"""

from __future__ import annotations

import re
from functools import lru_cache

from runcard._secret_names import DOUBTFUL, OPEN, PASSWORD, SECRET, is_switch, secrecy

REDACTED = "[redacted]"

level = lru_cache(maxsize=8192)(secrecy)


def shapes(text: str) -> tuple[str, int]:
    """Replace what is a secret by its own shape; returns the text and how many were replaced."""
    found = 0
    if not _SOLID.search(text):
        return text, 0
    for hint, expression in _BY_HINT:
        if hint in text:
            text, count = re.subn(expression, REDACTED, text)
            found += count
    for hint, words, proof in _AFTER_WORDS:
        if hint in text:
            text, count = _after_words(words, text, proof)
            found += count
    return text, found


def locators(text: str, *, code: bool = False) -> tuple[str, int]:
    """Replace the credentials of URLs, ``https://user:password@host``; in ``code``, not the examples of them."""
    if ":/" not in text or "@" not in text:
        return text, 0
    found = 0

    def hide(match: re.Match[str]) -> str:
        nonlocal found
        scheme, user, password = match["scheme"].lower(), match["user"], match["password"]
        if password is None:
            if not scheme.endswith(("http", "https")) or is_placeholder(user):
                return match[0]  # `ssh://git@host` names a user and gives nothing away
        elif is_placeholder(password) or (code and password.lower() in _EXAMPLES):
            return match[0]
        found += 1
        return f"{match['scheme']}{match['slashes']}{REDACTED}@"

    return _USERINFO.sub(hide, text), found


def assignments(text: str, *, code: bool = False) -> tuple[str, int]:
    """Replace what follows a secret's name: ``api_key=…``, ``"password": "…"``, ``--token …``, ``Authorization: …``.

    In ``code``, where most values are expressions, a value counts only when it is written out.
    """
    lowered = text.lower()
    hit = _STEM.search(lowered)
    if hit is None:
        return text, 0
    aligned = len(lowered) == len(text)
    found = done = position = 0
    parts: list[str] = []
    while True:
        if aligned and hit.end() <= position:
            hit = _STEM.search(lowered, position)
            if hit is None:
                break
        if aligned:  # nothing before the line with the next telling letters can be a secret's name
            position = max(position, text.rfind("\n", position, hit.start()) + 1)
        match = _NAMED.search(text, position)
        if match is None:
            break
        position = match.end()
        name = match["name"] or match["query"]
        secret = level(name) if match["query"] is None else max(DOUBTFUL, level(name))
        if secret == OPEN:
            continue
        if match["name"] and match["sep"] is None:
            alone = match.end() == match.end("name")  # with nothing between it and what follows, it has no value
            if alone or is_switch(name) or not (match["flag"] or match["listed"]):
                position = match.end("name")
                continue
        span = _value(text, match, secret, code)
        if span is None:
            continue
        parts += text[done : span[0]], REDACTED
        done = position = span[1]
        found += 1
    parts.append(text[done:])
    return "".join(parts), found


def is_placeholder(value: str) -> bool:
    """Whether a value stands for another, or for none: ``None``, ``***``, ``${TOKEN}``, ``<your key>``."""
    return value == "" or value.lower() in _NOTHING or _PLACEHOLDER.fullmatch(value) is not None


def _value(text: str, match: re.Match[str], secret: int, code: bool) -> tuple[int, int] | None:
    """Where the secret value after a name stands, or None when what stands there is not one."""
    start = match.end()
    quoted = _QUOTED.match(text, start)
    if quoted:
        start, end = quoted.span(quoted.lastgroup or 0)
    elif match["name"] and match["name"].lower().endswith("cookie") and match["sep"] and not code:
        bare = _TO_LINE_END.match(text, start)
        start, end = bare.span() if bare else (start, start)
    else:
        bare = (_CODE_VALUE if code and not match["query"] else _BARE).match(text, start)
        if bare is None:
            return None
        start, end = bare.span("value")
    value = text[start:end]
    if text.startswith(REDACTED, start) or is_placeholder(value):
        return None
    if secret < PASSWORD and _NUMBER.fullmatch(value):
        return None
    if quoted is None and value[0] in "([{" and (len(value) == 1 or secret == DOUBTFUL):
        return None  # an expression begins
    if match["query"] is not None:
        return (start, end) if len(value) >= 16 or match["query"][:2].lower() == "x-" else None
    if match["listed"]:
        return (start, end) if _plausible_in_list(text, match, secret, value, end, code) else None
    if code:
        plausible = _plausible_in_code(value, match, secret, quoted is not None)
    elif match["sep"] is None:
        plausible = value.lower() not in _PROSE
    elif match["sep"].strip() == ":" and quoted is None:
        told = secret != DOUBTFUL or _random(value) or len(value) >= 16 or "=" in value
        plausible = told and value.lower() not in _PROSE
    else:
        plausible = True
    return (start, end) if plausible else None


def _plausible_in_list(text: str, match: re.Match[str], secret: int, value: str, end: int, code: bool) -> bool:
    """Whether the item after a name is its value: of a flag in a list, ``['--token', '…']``, and in a pair of two."""
    if value.startswith("-") or level(value) or (code and not _random(value)):
        return False  # other spellings of an option, as a parser is told them
    start = match.start()
    return bool(match["flag"]) or (
        secret >= SECRET and text[start - 2 : start - 1] == "(" and text[end + 1 : end + 2] == ")"
    )


def _plausible_in_code(value: str, match: re.Match[str], secret: int, quoted: bool) -> bool:
    if level(value) or any(space in value for space in " \t") or len(value) < 4:
        return False  # the name of a field, a sentence, or too short to be one
    if value.lower() in _EXAMPLES:
        return False
    if quoted:
        return _random(value) if secret == DOUBTFUL else True
    tight = match["sep"] == "=" and match["name"].isupper()  # `KEY=value`, as in a shell or an .env file
    return _random(value) or (tight and secret != DOUBTFUL)


def _random(value: str) -> bool:
    """Whether a value looks made by a machine or for one: six characters or more, with digits and others."""
    return len(value) >= 6 and any(c.isdigit() for c in value) and not value.replace(".", "").isdigit()


def _after_words(expression: re.Pattern[str], text: str, proof: bool) -> tuple[str, int]:
    """Replace the group ``value``; with ``proof``, where it has the digits or the mix of cases that prose has not."""
    found = 0

    def hide(match: re.Match[str]) -> str:
        nonlocal found
        value = match["value"]
        mixed = any(c.isupper() for c in value[1:]) and any(c.islower() for c in value)
        if value == REDACTED or is_placeholder(value):
            return match[0]
        if proof and not (mixed or value.endswith("=") or any(c.isdigit() for c in value)):
            return match[0]
        found += 1
        start = match.start("value") - match.start()
        return match[0][:start] + REDACTED + match[0][start + len(value) :]

    return expression.sub(hide, text), found


# What every shape below has somewhere, and ordinary words, numbers and paths have not.
_SOLID = re.compile(
    r"[A-Za-z0-9_-]{14}|==|[Bb]earer |[Bb]asic |machine |-BEGIN |ya29|eyJ|SG\."
    r"| key|assword |curl|sshpass|docker|mysql|uth"
)
_NOTHING = frozenset(
    [
        "none",
        "null",
        "nil",
        "true",
        "false",
        "undefined",
        "empty",
        "missing",
        "unset",
        "str",
        "string",
        "bytes",
        "any",
        "optional",
        "secretstr",
        "...",
        "***",
        "****",
        "*****",
        "******",
        "********",
        "xxx",
        "changeme",
        "todo",
        "tbd",
        "n/a",
        "[redacted]",
        "redacted",
    ]
)
_EXAMPLES = frozenset(
    [
        "password",
        "pass",
        "passwd",
        "pwd",
        "secret",
        "token",
        "key",
        "example",
        "test",
        "dummy",
        "your-token",
        "your_token",
    ]
)
_PROSE = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "be",
        "must",
        "should",
        "not",
        "and",
        "or",
        "has",
        "have",
        "had",
        "cannot",
        "can",
        "could",
        "requires",
        "required",
        "to",
        "for",
        "in",
        "on",
        "with",
        "from",
        "flag",
        "option",
        "argument",
        "given",
        "expected",
        "invalid",
        "missing",
        "try",
        "the",
        "a",
        "an",
        "no",
        "unknown",
        "unexpected",
        "wrong",
        "incorrect",
        "failed",
        "error",
        "this",
        "that",
        "it",
        "which",
        "when",
        "if",
        "but",
        "authentication",
    ]
)
_PLACEHOLDER = re.compile(
    r"<[A-Za-z][\w :/.|-]{0,60}>|<[/|][\w/|-]{1,40}>|<[a-z|_]+\|?>|\[[A-Z_0-9]{1,20}\]|\*+|x{3,}|\.{3}|"
    r"\$\{?[A-Za-z_][\w.:]*+\}?|\{\{?[^{}]{0,80}\}?\}|%\(?\w*\)?s|%\w+%|your[-_][\w-]{1,40}"
)
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*+\.?[\d_]*+(?:[eE][+-]?\d+)?|inf|nan)")
_STEM = re.compile(  # in lower-case text; without the flag that ignores case, the engine can skip to first letters
    r"pass|pwd|pw|secret|token|key|auth|cookie|cred|dsn|conn|pin|sess|otp|jwt|bearer|sig|phrase|code"
)
_NAMED = re.compile(
    r"""(?:(?<=[?&])(?i:(?P<query>(?:x-(?:amz|goog)-)(?:signature|credential|security-token)|sig|signature|key|code))=
        |(?<![\w.-])(?P<flag>-{0,2})(?P<name>[A-Za-z_][\w.-]*+)
         (?:\\*+["']?\]?(?P<sep>\s*+(?::\s*+(?:str|bytes|(?:str\s*\|\s*)?None|Optional\[str\]|str\s*\|\s*None|SecretStr)\s*+=
            |=>|:=|={1,2}|:(?![:/]))\s*+)
          |(?P<listed>["'],\s{0,2}(?=[bru]?["']))
          |[ \t]++(?![-=:]))?+)""",
    re.VERBOSE,
)
_QUOTED = re.compile(
    r"""[bBrRuUfF]{0,2}(?:\\++["'](?P<escaped>[^"'\\\n]*+)
        |"(?P<double>(?:[^"\\\n]++|\\.)*+)|'(?P<single>(?:[^'\\\n]++|\\.)*+))""",
    re.VERBOSE,
)
_BARE = re.compile(
    r"""(?:(?:Bearer|Basic|Token|Digest|ApiKey|bearer|basic|token)[ ]+)?+
        (?P<value>(?:[^\s"'&,;)\]}\\]|\\(?!["'nr])|[,;)\]}](?=[^\s"'&,;)\]}=])(?![A-Za-z_][\w.-]*+\s*+[=:]))++)""",
    re.VERBOSE,
)
_CODE_VALUE = re.compile(r"""(?P<value>[^\s"'`(){}\[\],;<>$#\\]++)(?=[ \t]*(?:[#\r\n]|\Z))""")
_TO_LINE_END = re.compile(r"[^\r\n\"']++")
_USERINFO = re.compile(
    # one slash where a path was made of it, but for a drive; a slash in a password, but not behind a port
    r"(?P<scheme>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*+)(?P<slashes>://|(?<=[A-Za-z0-9+.-]{2}):/)"
    r"(?!\[)(?P<user>[^\s/?#@:\"'<>]*+)"  # a bracket begins an address of IPv6, or [redacted]
    r"(?::(?P<password>[^\s/\"'<>]*|(?!\d{1,5}/)[^\s\"'<>@]{1,200}))?@"
)

_PEM = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[A-Za-z0-9+/=\s:,]|\\++[nr]|-(?!----))*+(?:-----END [A-Z0-9 ]{0,40}-----)?"
)
_EDGE = r"(?<![A-Za-z0-9])"
# Compiled when its hint is first seen: most runs see none.
_BY_HINT = (
    ("PRIVATE KEY", _PEM),
    ("AKIA", r"(?<![A-Z0-9])AKIA[A-Z0-9]{16}(?![A-Z0-9])"),
    ("ASIA", r"(?<![A-Z0-9])ASIA[A-Z0-9]{16}(?![A-Z0-9])"),
    ("AIza", r"AIza[0-9A-Za-z_-]{35}"),
    ("ya29.", r"ya29\.[0-9A-Za-z_-]{20,}"),
    ("GOCSPX-", r"GOCSPX-[0-9A-Za-z_-]{20,}"),
    ("Q~", r"(?<![A-Za-z0-9_.~-])[A-Za-z0-9_.-]{3}\dQ~[A-Za-z0-9_.~-]{31,40}"),
    ("==", r"(?<![A-Za-z0-9+/_-])(?<!sha512-)[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])"),
    ("JQQJ99", r"(?<![A-Za-z0-9])[A-Za-z0-9]{40,60}JQQJ99[A-Za-z0-9]{20,40}"),
    ("gh", r"gh[pousr]_[A-Za-z0-9]{16,}"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{16,}"),
    ("gl", r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_.-]{16,}"),
    ("hf_", _EDGE + r"hf_[A-Za-z0-9]{16,}"),
    ("api_org_", _EDGE + r"api_org_[A-Za-z0-9]{20,}"),
    ("sk-", _EDGE + r"sk-(?:proj|svcacct|admin|None|ant|or|lf)-[A-Za-z0-9_-]{10,}"),
    ("sk-", _EDGE + r"sk-(?=[A-Za-z]*+\d)[A-Za-z0-9]{16,}"),
    ("xox", _EDGE + r"xox[abeoprs][.-][A-Za-z0-9.-]{10,}"),
    ("xapp-", _EDGE + r"xapp-[A-Za-z0-9-]{10,}"),
    ("hooks.slack.com/", r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]{10,}"),
    ("/api/webhooks/", r"(?<=/api/webhooks/)\d+/[\w-]{20,}"),
    ("k_live_", _EDGE + r"[rs]k_live_[A-Za-z0-9]{10,}"),
    ("k_test_", _EDGE + r"[rs]k_test_[A-Za-z0-9]{10,}"),
    ("whsec_", _EDGE + r"whsec_[A-Za-z0-9+/=]{16,}"),
    ("eyJ", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)*+"),
    ("npm_", _EDGE + r"npm_[A-Za-z0-9]{20,}"),
    ("pypi-", _EDGE + r"pypi-[A-Za-z0-9_-]{32,}"),
    ("SG.", _EDGE + r"SG\.[A-Za-z0-9_-]{16,80}\.[A-Za-z0-9_-]{16,}"),
    ("dapi", _EDGE + r"dapi[a-f0-9]{32}"),
    ("dop_v1_", _EDGE + r"dop_v1_[a-f0-9]{40,}"),
    ("dckr_pat_", _EDGE + r"dckr_pat_[A-Za-z0-9_-]{16,}"),
    ("hvs.", _EDGE + r"hvs\.[A-Za-z0-9_-]{20,}"),
    ("nvapi-", _EDGE + r"nvapi-[A-Za-z0-9_-]{20,}"),
    ("gsk_", _EDGE + r"gsk_[A-Za-z0-9]{20,}"),
    ("r8_", _EDGE + r"r8_[A-Za-z0-9]{30,}"),
    ("xai-", _EDGE + r"xai-[A-Za-z0-9]{32,}"),
    ("pplx-", _EDGE + r"pplx-[A-Za-z0-9]{32,}"),
    ("lsv2_", _EDGE + r"lsv2_(?:pt|sk)_[A-Za-z0-9_]{20,}"),
    ("wandb_v1_", _EDGE + r"wandb_v1_[A-Za-z0-9_]{20,}"),
    ("pcsk_", _EDGE + r"pcsk_[A-Za-z0-9_]{20,}"),
    ("shp", _EDGE + r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    ("ATATT3", _EDGE + r"ATATT3[A-Za-z0-9_=-]{20,}"),
    ("AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[0-9A-Z]{20,}"),
    (":AA", r"(?<![0-9A-Za-z])\d{8,10}:AA[A-Za-z0-9_-]{33}"),
)
# Whether the value needs proof: what may follow these words in prose has no digits and no mix of cases.
_AFTER_WORDS = [
    (hint, re.compile(expression), proof)
    for hint, expression, proof in (
        ("earer ", r"\b[Bb]earer +(?P<value>[A-Za-z0-9._~+/-]{8,}+=*+)", True),
        ("asic ", r"\b[Bb]asic +(?P<value>[A-Za-z0-9+/]{8,}+=*+)", True),
        ("machine ", r"\bmachine\s+\S{1,200}\s+login\s+\S{1,200}\s+password\s+(?P<value>\S{1,400})", True),
        ("wandb.login", r"\bwandb\.login\([^)\n]{0,100}?[\"'](?P<value>[0-9a-f]{40})", True),
        (
            " key",
            r"\b(?i:api|access|secret) key(?: provided)?(?: is|:| ?=)? [\"']?(?P<value>[\w.~+/-]{8,200}+=*+)",
            True,
        ),
        ("assword ", r"\b[Pp]assword (?:is |was )?(?P<value>(?<=is )[^\"'\s]{6,200}|[\"'][^\"'\s]{4,200}[\"'])", True),
        (
            "curl",
            r"\bcurl\b[^\n]{0,120}?[\s\"'](?:-u|--(?:proxy-)?user)[\"',=\s]{0,4}(?P<value>[\w.@+-]{1,100}:[^\s\"']+)",
            False,
        ),
        ("sshpass", r"\bsshpass[\"',\s]{1,4}-p[\"',\s]{0,4}(?P<value>[^\s\"']+)", False),
        ("docker", r"\bdocker[\"',\s]{1,4}login\b[^\n]{0,120}?[\s\"']-p[\"',\s]{1,4}(?P<value>[^\s\"']+)", False),
        ("mysql", r"\bmysql[^\n]{0,120}?[\s\"']-p(?P<value>[^\s\"',]{4,200})", True),
        (
            "uth",
            r"\b(?:auth ?= ?|HTTP\w{5,6}Auth)\(\s?[\"'][^\"'\n]{0,100}[\"'], ?[\"'](?P<value>[^\"'\n]{1,200})",
            False,
        ),
    )
]
