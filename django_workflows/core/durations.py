from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django_workflows.exceptions import InvalidValue

U = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(value: Any, *, path: str = "$") -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)):
        return timedelta(seconds=value)
    found = re.findall(r"([\d.]+)([smhdw])", value)
    if not found or re.sub(r"([\d.]+)([smhdw])", "", value):
        raise InvalidValue(f"{value!r} is no duration", path=path)
    return timedelta(seconds=sum(float(n) * U[u] for n, u in found))
