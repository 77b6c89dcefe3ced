"""Sensitive values never leave the rows: screens, signals, the API and logs show stars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

STARS: Final = "•••"


def mask(value: Any, keys: Collection[str]) -> Any:
    """A copy of ``value`` with the values of ``keys`` (at any depth, any case) replaced by stars."""
    if not keys:
        return value
    return _mask(value, frozenset(key.casefold() for key in keys))


def _mask(value: Any, keys: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: STARS if str(key).casefold() in keys else _mask(item, keys) for key, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, keys) for item in value]
    return value
