"""The language of ``where=``: Python's expression syntax over a record, parsed by `ast`, walked by us, never evaluated.

What there is: the record's fields by name, dots into nested mappings (``config.optimizer.lr``), subscripts for the
rest (``metrics["train/loss"]``, ``config["a.b"]``, ``config.layers[0]``); ``== != < <= > >= in`` and ``not in``,
chained as in Python, ``is None``; ``and or not``; ``+ - * / // % **``; numbers, texts, ``True False None inf nan``,
lists and tuples; and the functions of `FUNCTIONS`.

What is missing compares false: every comparison in which one side is not in the record is False, `!=` and `not in`
too, and ``not`` of it is True. A field that is None is there: ``decision != "discard"`` holds for a run without a
decision. Values of different types are unequal and in no order; NaN is as in IEEE 754. Nothing in a record makes an
expression raise.

Times compare with ISO texts, taken as UTC when they name no zone; a date alone stands for its whole day:
``started_at >= "2026-11-01"``, ``started_at == "2026-11-01"``.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from runcard._operations import (
    ARITHMETIC,
    COMPARISONS,
    FUNCTIONS,
    calculated,
    called_with,
    inside,
    subscripted,
    time_span,
)
from runcard._words import width_of
from runcard.errors import QueryError
from runcard.record import RunRecord, Status

NAMES = (*(each.name for each in fields(RunRecord) if each.name not in ("folder", "metric_history")), "short_id")
"""The record's fields that an expression and a sort key may name."""
WITHOUT_FIELDS = frozenset(
    each.name
    for each in fields(RunRecord)
    if each.type
    in ("str", "int", "Status", "list[str]", *(f"{one} | None" for one in ("str", "int", "float", "bool", "datetime")))
) | {"short_id"}
"""Those that are a value, or a list of values: a dot after them leads nowhere."""

Part = Callable[[RunRecord], Any]


class Where:
    """A compiled expression: call it with a record.

    Attributes:
        expression: As it was written.
        names: The record's fields it looks at.
    """

    def __init__(self, expression: str) -> None:
        compiled = _Compiler(expression)
        self.expression = expression
        self._test = compiled.test
        self.names = frozenset(compiled.names)

    def __call__(self, record: RunRecord) -> bool:
        return bool(self._test(record))

    def __repr__(self) -> str:
        return f"where({self.expression!r})"


def where(expression: str) -> Where:
    """Compile an expression over a record into a predicate.

    Args:
        expression: For example ``config.lr < 0.1 and metrics["val/loss"] < 0.3 and "quick" in tags``.

    Raises:
        QueryError: When the expression cannot be understood; the message points at the place.
    """
    if not isinstance(expression, str):
        raise QueryError(f"where= takes an expression as text, not {type(expression).__name__}")
    return Where(expression)


_CONSTANTS = {"inf": math.inf, "nan": math.nan}
_NUMBERS = frozenset((*_CONSTANTS, "duration_s", "exit_code", "process_rank", "schema_version"))
_LONGEST = 10_000  # characters
_DEEPEST = 60  # levels, each one Python frame when it runs


class _Compiler:
    """From the text to one nested closure; every refusal goes through `_refuse`, which knows the place."""

    def __init__(self, expression: str) -> None:
        self.names: set[str] = set()
        self.text = expression.replace("\n", " ").replace("\r", " ").strip()
        if len(self.text) > _LONGEST:
            raise QueryError(f"the expression has {len(self.text):,} characters; at most {_LONGEST:,} are read")
        self.test = self._part(self._parsed(), 0)

    def _parsed(self) -> ast.expr:
        if not self.text:
            raise QueryError('the expression is empty; write for example: config.lr < 0.1 and status == "finished"')
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's advice on literals is not for here
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            place = error.offset - 1 if error.offset else len(self.text)  # no offset: it ends too soon
            hint = "; compare with ==" if self.text[place : place + 1] == "=" else ""
            raise self._error(place, f"not Python's expression syntax: {error.msg}{hint}") from None
        except (ValueError, MemoryError, RecursionError) as error:
            raise QueryError(f"the expression cannot be read: {error or type(error).__name__}") from None

    def _error(self, place: int, message: str) -> QueryError:
        left = max(0, place - 50)  # so much as goes into a line of 80 columns
        shown = self.text[left : left + 76]
        return QueryError(f"{message}\n  {shown}\n  {' ' * width_of(self.text[left:place])}^")

    def _refuse(self, node: ast.expr, message: str) -> QueryError:
        before = self.text.encode("utf-8", "surrogatepass")[: node.col_offset]
        return self._error(len(before.decode("utf-8", "surrogatepass")), message)

    def _part(self, node: ast.expr, depth: int) -> Part:
        if depth > _DEEPEST:
            raise self._refuse(node, f"nested deeper than {_DEEPEST} levels")
        match node:
            case ast.Constant(value):
                if value is None or isinstance(value, (bool, int, float, str)):
                    return lambda _: value
                raise self._refuse(node, f"a {type(value).__name__} is no value of a record")
            case ast.Name(name):
                return self._name(node, name)
            case ast.Attribute(base, name):
                self._check_inside(node, base, name)
                inner = self._part(base, depth + 1)
                return lambda record: inside(inner(record), name)
            case ast.Subscript(base, key):
                return self._subscript(base, key, depth)
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.BoolOp(ast.And(), terms):
                tests = [self._part(term, depth + 1) for term in terms]
                return lambda record: all(test(record) for test in tests)
            case ast.BoolOp(_, terms):
                tests = [self._part(term, depth + 1) for term in terms]
                return lambda record: any(test(record) for test in tests)
            case ast.UnaryOp(ast.Not(), operand):
                inner = self._part(operand, depth + 1)
                return lambda record: not inner(record)
            case ast.UnaryOp(ast.USub() | ast.UAdd() as sign, operand):
                inner = self._part(operand, depth + 1)
                factor = -1 if isinstance(sign, ast.USub) else 1
                return lambda record: calculated(operator.mul, factor, inner(record))
            case ast.BinOp(left, sign, right):
                return self._arithmetic(node, left, sign, right, depth)
            case ast.List(items) | ast.Tuple(items) | ast.Set(items):
                parts = [self._part(item, depth + 1) for item in items]
                return lambda record: [part(record) for part in parts]
            case ast.Call():
                return self._call(node, depth)
            case _:
                raise self._refuse(node, f"{_called(node)} is not part of the language; {_ACCEPTED}")

    def _check_inside(self, node: ast.expr, base: ast.expr, name: str) -> None:
        """What can only be missing is refused at once: of each run, it would be silently false."""
        if name.startswith("__"):
            raise self._refuse(node, f"{name} is no field; a setting of that name goes into brackets: [{name!r}]")
        if isinstance(base, ast.Name) and base.id in WITHOUT_FIELDS:
            raise self._refuse(node, f"{base.id} has no fields, only a value: it is compared as it is")
        if not isinstance(base, (ast.Name, ast.Attribute, ast.Subscript)):
            raise self._refuse(node, f".{name} follows a field of the record and nothing else")

    def _name(self, node: ast.expr, name: str) -> Part:
        if name in _CONSTANTS:
            value = _CONSTANTS[name]
            return lambda _: value
        if name in NAMES:
            self.names.add(name)
            return operator.attrgetter(name)
        raise self._refuse(node, unknown_name(name))

    def _subscript(self, base: ast.expr, key: ast.expr, depth: int) -> Part:
        if isinstance(key, ast.Slice):
            raise self._refuse(base, "a slice is not part of the language; one item is: layers[0]")
        inner, index = self._part(base, depth + 1), self._part(key, depth + 1)
        return lambda record: subscripted(inner(record), index(record))

    def _comparison(self, node: ast.Compare, depth: int) -> Part:
        first = self._part(node.left, depth + 1)
        links = []
        left: ast.expr = node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(sign, (ast.Is, ast.IsNot)) and not _is_singleton(right):
                raise self._refuse(right, "`is` goes with None, True or False; compare values with ==")
            if isinstance(sign, (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                self._check_time(left, right)
                self._check_time(right, left)
            links.append((COMPARISONS[type(sign)], self._part(right, depth + 1)))
            left = right
        if len(links) == 1:
            compare, second = links[0]
            return lambda record: compare(first(record), second(record))

        def chained(record: RunRecord) -> bool:
            value = first(record)
            for compare, part in links:
                following = part(record)
                if not compare(value, following):
                    return False
                value = following
            return True

        return chained

    def _check_time(self, name: ast.expr, text: ast.expr) -> None:
        """A time that is no time is refused at once: compared with each run, it would be silently false."""
        if isinstance(name, ast.Name) and name.id in ("started_at", "ended_at"):
            literal = text.value if isinstance(text, ast.Constant) else None
            if isinstance(literal, str) and time_span(literal) is None:
                raise self._refuse(
                    text, 'not a time; write "2026-11-01" or "2026-11-01T10:00", in UTC unless it says otherwise'
                )

    def _arithmetic(self, node: ast.expr, left: ast.expr, sign: ast.operator, right: ast.expr, depth: int) -> Part:
        calculate = ARITHMETIC.get(type(sign))
        if calculate is None:
            word = {ast.BitAnd: "; write `and`", ast.BitOr: "; write `or`"}.get(type(sign), "")
            raise self._refuse(node, f"this operator is not part of the language{word}")
        match left, sign, right:
            case ast.Attribute(ast.Name("metrics"), head), ast.Div(), ast.Name(tail) if tail not in _NUMBERS:
                raise self._refuse(
                    left, f'the name of a metric with a slash goes into brackets: metrics["{head}/{tail}"]'
                )
        first, second = self._part(left, depth + 1), self._part(right, depth + 1)
        return lambda record: calculated(calculate, first(record), second(record))

    def _call(self, node: ast.Call, depth: int) -> Part:
        arguments = list(node.args)
        match node.func:
            case ast.Name(name):
                pass
            case ast.Attribute(base, ("startswith" | "endswith" | "lower") as name):
                arguments.insert(0, base)
            case _:
                raise self._refuse(node.func, f"only these can be called: {', '.join(FUNCTIONS)}")
        if name not in FUNCTIONS:
            raise self._refuse(
                node.func, f"no function {name!r}{_near(name, FUNCTIONS)}; there are: {', '.join(FUNCTIONS)}"
            )
        function, least, most = FUNCTIONS[name]
        if node.keywords or not least <= len(arguments) <= most or any(isinstance(a, ast.Starred) for a in arguments):
            raise self._refuse(
                node, f"{name}() takes {least if least == most else f'{least} to {most}'} plain arguments"
            )
        parts = [self._part(argument, depth + 1) for argument in arguments]
        return lambda record: called_with(function, [part(record) for part in parts])


_ACCEPTED = "there are fields of the record, numbers, texts, comparisons, and/or/not, arithmetic and a few functions"


def unknown_name(name: str) -> str:
    """What to say of a name that is no field of a record."""
    if name in list(Status):
        return f'no field {name!r}; a text goes in quotes: status == "{name}"'
    if name.lower() in ("true", "false", "none", "null"):
        return f"no field {name!r}; Python writes {'None' if name.lower() == 'null' else name.capitalize()}"
    hint = _near(name, NAMES)
    if hint:
        return f"no field {name!r}{hint}"
    hint = f'a setting is config.{name}, a metric metrics.{name}, one with a slash metrics["train/{name}"]'
    return f"no field {name!r}; {hint}; fields are name, experiment, status, tags, started_at, decision and others"


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(near)}?" if near else ""


def _called(node: ast.expr) -> str:
    return {
        "Lambda": "a function",
        "IfExp": "`… if … else …`",
        "Dict": "a mapping",
        "JoinedStr": "an f-string",
        "NamedExpr": "an assignment",
        "Starred": "a star",
        "UnaryOp": "this operator",
    }.get(type(node).__name__, f"a {type(node).__name__}")


def _is_singleton(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))
