from __future__ import annotations

import json
from typing import Any

from django_workflows.exceptions import InvalidInput, InvalidValue, PayloadTooLarge


def encode(value: Any, *, max_bytes: int | None = None, max_depth: int = 64) -> Any:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise InvalidValue(str(e), path="$") from e
    if "\\u0000" in text:
        raise InvalidValue("NUL", path="$")
    if max_bytes and len(text) > max_bytes:
        raise PayloadTooLarge("too large", limit=max_bytes)
    return json.loads(text) if isinstance(value, (dict, list, tuple)) else value


def decode(v: Any) -> Any:
    return v


def plain(v: Any) -> Any:
    return v


def parse_json(text: Any, *, max_bytes: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise InvalidInput(str(e)) from e
