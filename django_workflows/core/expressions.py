"""Conditions and values in CEL, the Common Expression Language: compiled once, bounded, no side effects.

In scope are ``data``, ``steps``, ``instance`` and ``now`` (a timestamp). A name that is missing is an
error, never null; ``has(data.x)`` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from cel_expr_python import cel

from django_workflows.exceptions import ExpressionError

MAX_LENGTH: Final = 4_000

NAMES: Final = ("data", "steps", "instance", "now")

_ENVIRONMENT: Final = cel.NewEnv(
    variables={
        "data": cel.Type.DYN,
        "steps": cel.Type.DYN,
        "instance": cel.Type.DYN,
        "now": cel.Type.TIMESTAMP,
    }
)

#: The compiler's way of naming a place: ``ERROR: <input>:1:24: message``.
_PLACE: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionProblem:
    """Where and why an expression cannot be compiled; line and column count from 1."""

    message: str
    line: int
    column: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    expression: Any
    names: tuple[str, ...]
    result: str


class _Broken(Exception):
    def __init__(self, problems: list[ExpressionProblem]) -> None:
        super().__init__(problems[0].message)
        self.problems = problems


@lru_cache(maxsize=2048)
def _compile(text: str) -> _Compiled:
    if len(text) > MAX_LENGTH:
        raise _Broken([_problem(text, f"an expression may have at most {MAX_LENGTH} characters")])
    if not text.strip():
        raise _Broken([_problem(text, "the expression is empty")])
    if "\x00" in text or (not text.isascii() and _has_surrogates(text)):
        raise _Broken([_problem(text, "the expression holds a character that is none")])
    try:
        expression = _ENVIRONMENT.compile(text)
    except (RuntimeError, UnicodeEncodeError) as error:
        raise _Broken(_problems(text, str(error))) from error
    names = tuple(name for name in NAMES if re.search(rf"\b{name}\b", text))
    return _Compiled(expression=expression, names=names, result=str(expression.return_type()))


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _problem(text: str, message: str) -> ExpressionProblem:
    return ExpressionProblem(message=message, line=1, column=1, text=text[:200])


def _problems(text: str, report: str) -> list[ExpressionProblem]:
    found = [
        ExpressionProblem(message=message, line=int(line), column=int(column), text=text)
        for line, column, message in _PLACE.findall(report)
    ]
    return found or [_problem(text, report.splitlines()[0].removeprefix("INVALID_ARGUMENT: "))]


def check(text: str, *, expect: Literal["bool", "value"]) -> list[ExpressionProblem]:
    """What is wrong with the expression; a condition must be able to give true or false."""
    try:
        compiled = _compile(text)
    except _Broken as broken:
        return broken.problems
    if expect == "bool" and compiled.result not in ("BOOL", "DYN"):
        return [_problem(text, f"a condition gives true or false, not {compiled.result.lower()}")]
    return []


def evaluate(text: str, scope: Mapping[str, Any]) -> Any:
    """The value as plain Python (times as RFC 3339 text, durations as seconds).

    Raises ``ExpressionError`` for everything that goes wrong, the budget included.
    """
    try:
        compiled = _compile(text)
        found = compiled.expression.eval(data={name: scope[name] for name in compiled.names})
        value = found.value()
    except _Broken as broken:
        raise ExpressionError(f"{broken} in {text!r}", text=text) from broken
    except (RuntimeError, TypeError, ValueError, OverflowError, KeyError) as error:
        raise ExpressionError(f"{_first_line(error)} in {text!r}", text=text) from error
    if found.type() == cel.Type.ERROR:
        raise ExpressionError(f"{value} in {text!r}", text=text)
    return _python(value, text)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def is_true(text: str, scope: Mapping[str, Any]) -> bool:
    """The truth of a condition; a value that is neither true nor false is an ``ExpressionError``."""
    value = evaluate(text, scope)
    if not isinstance(value, bool):
        raise ExpressionError(f"A condition gives true or false, not {value!r:.80}, in {text!r}", text=text)
    return value


def _python(value: Any, text: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(_unwrapped(key)): _python(_unwrapped(item), text) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_python(_unwrapped(item), text) for item in value]
    raise ExpressionError(f"A {type(value).__name__} is no value that can be kept, in {text!r}", text=text)


def _unwrapped(value: Any) -> Any:
    """What is inside of a list or map may still be a value of the language."""
    return value.value() if isinstance(value, cel.Value) else value
