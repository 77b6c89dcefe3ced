"""Texts with ``{{ expressions }}`` in them. What an expression gives is never read as a template again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from . import expressions
from .expressions import ExpressionProblem

#: ``{{{{`` stands for two braces; otherwise an expression, which may hold quoted braces.
_PIECE: Final = re.compile(r"(\{\{\{\{)|\{\{((?:\"[^\"]*\"|'[^']*'|[^\"'])*?)\}\}", re.DOTALL)


def render(text: str, scope: Mapping[str, Any]) -> str:
    """The text with every expression replaced by its value; raises ``ExpressionError``."""
    if "{{" not in text:
        return text
    return _PIECE.sub(lambda match: "{{" if match[1] else _written(expressions.evaluate(match[2].strip(), scope)), text)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def check(text: str) -> list[ExpressionProblem]:
    """The problems of all expressions, with line and column in the whole text."""
    found: list[ExpressionProblem] = []
    if "{{" not in text:
        return found
    for match in _PIECE.finditer(text):
        if match[1]:
            continue
        start = match.start(2) + len(match[2]) - len(match[2].lstrip())
        line, column = text.count("\n", 0, start), start - (text.rfind("\n", 0, start) + 1)
        for problem in expressions.check(match[2].strip(), expect="value"):
            shift = column if problem.line == 1 else 0
            found.append(replace(problem, line=problem.line + line, column=problem.column + shift))
    rest = _PIECE.sub("", text)
    if "{{" in rest:
        found.append(ExpressionProblem(message="'{{' is never closed by '}}'", line=1, column=1, text=text[:200]))
    return found
