from __future__ import annotations

import re
from typing import Any

from . import expressions

R = re.compile(r"\{\{(.*?)\}\}")


def render(text: str, scope: Any) -> str:
    return R.sub(lambda m: str(expressions.evaluate(m[1].strip(), scope)), text)


def check(text: str) -> list[Any]:
    return [p for m in R.finditer(text) for p in expressions.check(m[1].strip(), expect="value")]
