"""Lengths of time as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, Final

from django_workflows.exceptions import InvalidValue

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SHORT: Final = re.compile(
    r"(?:(\d+(?:\.\d+)?)w)?(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"
)
_ISO: Final = re.compile(
    r"P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)


def parse_duration(value: Any, *, path: str = "$") -> timedelta:
    """``"90s"``, ``"1h30m"``, ``"3d"``, ``"1w"``, ISO 8601 (``"PT15M"``), seconds, or a timedelta.

    Raises ``InvalidValue`` for anything else, and for a negative length.
    """
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = _from_seconds(value, path)
    elif isinstance(value, str):
        found = _from_text(value, path)
    else:
        raise _refusal(value, path)
    if found < timedelta(0):
        raise InvalidValue(f"{value!r} is a negative length of time.", path=path)
    return found


def _from_seconds(value: float, path: str) -> timedelta:
    if not math.isfinite(value):
        raise _refusal(value, path)
    try:
        return timedelta(seconds=value)
    except OverflowError as error:
        raise InvalidValue(f"{value!r} seconds are too long a time.", path=path) from error


def _from_text(text: str, path: str) -> timedelta:
    match = _SHORT.fullmatch(text.strip()) or _ISO.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise _refusal(text, path)
    parts = zip(match.groups(), ("w", "d", "h", "m", "s"), strict=True)
    return _from_seconds(sum(float(number) * _SECONDS[unit] for number, unit in parts if number), path)


def _refusal(value: Any, path: str) -> InvalidValue:
    return InvalidValue(
        f'{value!r:.80} is no length of time; write for example "90s", "1h30m", "3d", "1w" or "PT15M".', path=path
    )


def format_duration(length: timedelta) -> str:
    """The two largest units: ``3 d 4 h``, ``15 min``, ``0 s``."""
    seconds = int(length.total_seconds())
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"
