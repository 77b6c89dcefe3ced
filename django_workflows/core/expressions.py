from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from django_workflows.exceptions import ExpressionError

ENV = cel.NewEnv(variables=dict.fromkeys(("data", "steps", "instance", "now"), cel.Type.DYN))


@dataclass(frozen=True)
class ExpressionProblem:
    message: str
    line: int
    column: int
    text: str


@lru_cache(1000)
def _c(text: str) -> Any:
    return ENV.compile(text)


def check(text: str, *, expect: str) -> list[ExpressionProblem]:
    try:
        _c(text)
    except RuntimeError as e:
        return [ExpressionProblem(str(e), 1, 1, text)]
    return []


def evaluate(text: str, scope: Any) -> Any:
    try:
        v = _c(text).eval(**{**scope, "now": scope["now"].isoformat()})
    except Exception as e:
        raise ExpressionError(str(e), text=text) from e
    if "ERROR" in str(v.type()):
        raise ExpressionError(str(v.value()), text=text)
    return v.value()


def is_true(text: str, scope: Any) -> bool:
    v = evaluate(text, scope)
    if not isinstance(v, bool):
        raise ExpressionError(f"{v!r} is no truth value", text=text)
    return v
