"""OmegaConf containers read from their own memory: references resolved, resolvers such as ``oc.env`` never run.

OmegaConf itself resolves a reference by way of any resolver on its path, so its own functions are not used.
"""

from __future__ import annotations

import re
from typing import Any

from runcard._values_kinds import instance_dict, names_of


def pairs(config: Any) -> dict[Any, Any] | None:
    """The entries of a ``DictConfig``; None when it stands for None, is missing or a reference that leads nowhere."""
    content = instance_dict(config).get("_content")
    return {key: _value(node, 0) for key, node in content.items()} if type(content) is dict else None


def items(config: Any) -> list[Any]:
    """The items of a ``ListConfig``."""
    content = instance_dict(config).get("_content")
    return [_value(node, 0) for node in content] if type(content) is list else []


def _value(node: Any, depth: int) -> Any:
    """What a node holds: a container, or a value with its references replaced."""
    own = instance_dict(node)
    raw = own.get("_val") if "_val" in own else own.get("_content")
    if "_content" in own and (type(raw) is dict or type(raw) is list):
        return node
    if type(raw) is not str or "${" not in raw:
        return raw
    whole = _REFERENCE.fullmatch(raw)
    if whole is not None:
        found = _follow(node, whole[1], depth)
        return raw if found is _NOWHERE else found
    if _ANY.sub("", _REFERENCE.sub("", raw)) != _REFERENCE.sub("", raw) or depth > _LONGEST:
        return raw  # a resolver is in it

    def written(match: re.Match[str]) -> str:
        found = _follow(node, match[1], depth)
        kind = type(found)
        return str(found) if kind is str or kind is int or kind is float or kind is bool else match[0]

    return _REFERENCE.sub(written, raw)


def _follow(node: Any, reference: str, depth: int) -> Any:
    """Where a reference leads: from the root, or with leading dots from the node's own container upwards."""
    if depth > _LONGEST:
        return _NOWHERE
    path = reference.lstrip(".")
    at = instance_dict(node).get("_parent")
    dots = len(reference) - len(path)
    if dots == 0:
        while (above := instance_dict(at).get("_parent")) is not None:
            at = above
    for _ in range(dots - 1):
        at = instance_dict(at).get("_parent")
    found: Any = at
    for name in (part for part in _STEP.split(path) if part):
        content = instance_dict(found).get("_content")
        if type(content) is dict:
            child = next((content[key] for key in (name, _integer(name)) if key in content), _NOWHERE)
        elif type(content) is list and (index := _integer(name)) is not None and index < len(content):
            child = content[index]
        else:
            return _NOWHERE
        if child is _NOWHERE:
            return _NOWHERE
        found = _value(child, depth + 1)
        if not _is_container(found):
            last = found
            found = child
            if type(last) is str and "${" in last:
                return _NOWHERE  # it goes by a resolver: the reference stays as it is written
    return _value(found, depth + 1) if not _is_container(found) else found


def _is_container(value: Any) -> bool:
    return "omegaconf.basecontainer:BaseContainer" in names_of(type(value))


def _integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


_NOWHERE = object()
_LONGEST = 16
_REFERENCE = re.compile(r"\$\{([^${}:]{1,500})\}")
_ANY = re.compile(r"\$\{")
_STEP = re.compile(r"[.\[\]]+")
