"""Versions compared as versions (PEP 440), not as text."""

from __future__ import annotations

from typing import Final

from packaging.version import InvalidVersion, Version

from django_workflows.exceptions import InvalidValue

_SEGMENTS: Final = 5
_DIGITS: Final = 8
_PRE: Final = {"a": 1, "b": 2, "rc": 3}


def version_key(text: str) -> str:
    """Digits of fixed width whose order as text, in any collation, is the order of the versions.

    Raises ``InvalidValue`` for what is no version, or has more than five numbers.
    """
    try:
        version = Version(text)
    except (InvalidVersion, TypeError) as error:
        raise InvalidValue(f"{text!r} is no version (for example 1, 1.2 or 2.0rc1)", path="version") from error
    numbers = version.release
    if len(numbers) > _SEGMENTS or max(numbers) >= 10**_DIGITS or version.epoch > 9 or version.local:
        raise InvalidValue(
            f"{text!r} is too long for a version: at most five numbers below 100,000,000", path="version"
        )
    release = "".join(f"{number:0{_DIGITS}d}" for number in (*numbers, *[0] * (_SEGMENTS - len(numbers))))
    return f"{version.epoch}{release}{_stage(version)}"


def _stage(version: Version) -> str:
    """Where the version stands among those with the same numbers: dev < a < b < rc < final < post."""
    if version.pre is not None:
        kind, number = _PRE[version.pre[0]], version.pre[1]
    elif version.post is not None:
        kind, number = 5, version.post
    else:
        kind, number = (0 if version.dev is not None else 4), 0
    dev = "9" * 6 if version.dev is None else f"{version.dev:06d}"
    return f"{kind}{number:06d}{dev}"
