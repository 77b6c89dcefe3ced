"""What the scenarios share: their options, their result, and how one begins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .processes import Fleet
from .world import World

ROLES = ("cluster", "ticker")


@dataclass(slots=True, kw_only=True)
class Options:
    database: str = "sqlite"
    n: int = 20
    seed: int = 0
    bug: str = ""
    at: tuple[str, ...] = ("F2",)
    seconds: float = 20.0


@dataclass(slots=True, kw_only=True)
class Result:
    """One line of the table; ``facts`` are what the test has to say beside the counts."""

    test: str
    database: str
    n: int
    seed: int
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    wrong: int = 0
    minutes: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    modes: dict[str, dict[str, Any]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, tally: Any) -> None:
        for name in ("lost", "duplicated", "stuck", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(tally, name))
        self.violations += tally.violations

    @property
    def is_red(self) -> bool:
        return bool(self.lost or self.stuck or self.wrong or self.violations)


def start_all(names: Sequence[str], count: int, *, data: Mapping[str, Any] | None = None) -> list[UUID]:
    """Start instances of these workflows in turn; returns those that were acknowledged."""
    from django_workflows import services

    return [services.start(names[number % len(names)], by=services.SYSTEM, data=data).pk for number in range(count)]


def fleet_of(options: Options, roles: Sequence[str] = ROLES, environment: Mapping[str, str] | None = None) -> Fleet:
    return Fleet(roles, {**(environment or {}), "CHAOS_BUG": options.bug})


def seeded(made: World, options: Options) -> World:
    made.rng.seed(options.seed)
    return made


def unfinished() -> int:
    from .checker import unfinished

    return unfinished()


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
