"""The same population of declarations, made from a small table of facts: ``facts.json``.

The real log (van Dongen, B.: BPI Challenge 2020, doi:10.4121/uuid:52fb97d4-4588-43c9-9d04-3604d4613b51)
is not part of the project. What is drawn from it: its 90 paths with their counts, amounts and waiting
times as quantiles, and the period.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from .xes import Case, Event

FACTS = Path(__file__).with_name("facts.json")
WITHOUT_PREFIX = ("Request Payment", "Payment Handled")


@cache
def facts() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))
    return found


def total() -> int:
    """How many cases the real log has."""
    return sum(path["count"] for path in facts()["paths"])


def generate(limit: int | None = None, *, seed: int = 2020, document: str = "Declaration") -> Iterator[Case]:
    """Cases in the order of their beginnings; the same seed gives the same cases.

    All of them with their exact counts, or a proportional sample of ``limit``. Raises ``ValueError``
    for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"At least one case, not {limit}.")
    chance = random.Random(seed)
    counts = _counts(limit)
    paths = [path for path, count in zip(facts()["paths"], counts, strict=True) for _ in range(count)]
    begins = sorted(_beginning(chance) for _ in paths)
    chance.shuffle(paths)
    for number, (path, begin) in enumerate(zip(paths, begins, strict=True), 1):
        yield _case(number, path, begin, chance, document)


def _counts(limit: int | None) -> list[int]:
    """How often each path occurs; shares are rounded by the largest remainder."""
    counts = [path["count"] for path in facts()["paths"]]
    if limit is None or limit >= sum(counts):
        return counts
    shares = [count * limit / sum(counts) for count in counts]
    floors = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda n: (floors[n] - shares[n], n))
    for number in by_remainder[: limit - sum(floors)]:
        floors[number] += 1
    return floors


def _beginning(chance: random.Random) -> datetime:
    """A moment of a working day within the period."""
    first, last = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in facts()["period"])
    day = first + timedelta(days=chance.randrange((last - first).days + 1))
    if day.weekday() > 4:
        day += timedelta(days=7 - day.weekday())
    return day + timedelta(hours=7, seconds=chance.randrange(10 * 3600))


def _drawn(chance: random.Random, quantiles: list[float]) -> float:
    """A value between the quantiles, in a straight line from one to the next."""
    marks = [0.0, *facts()["quantiles"], 1.0]
    values = [quantiles[0], *quantiles, quantiles[-1]]
    at = chance.random()
    for (low, high), (a, b) in zip(pairwise(marks), pairwise(values), strict=True):
        if at <= high:
            return a + (b - a) * (at - low) / (high - low)
    return values[-1]


def _waits() -> dict[tuple[int, int], list[float]]:
    return {(before, after): quantiles for before, after, _, quantiles in facts()["waits_in_hours"]}


def _case(number: int, path: Mapping[str, Any], begin: datetime, chance: random.Random, document: str) -> Case:
    amount = round(_drawn(chance, path.get("amounts", facts()["amounts"])), 2)
    known = {"(case)_Amount": amount, "(case)_DeclarationNumber": f"declaration number {number}"}
    waits, at, events = _waits(), begin, []
    for index, activity in enumerate(path["activities"]):
        if index:
            hours = _drawn(chance, waits[path["activities"][index - 1], activity])
            at += max(timedelta(hours=hours), timedelta(seconds=1))
        events.append(_event(facts()["activities"][activity], at, document, known))
    return Case(id=f"declaration {number}", events=tuple(events), attributes={})


def _event(activity: str, at: datetime, document: str, known: Mapping[str, Any]) -> Event:
    role = activity.partition(" by ")[2]
    name = activity if activity in WITHOUT_PREFIX else f"{document} {activity}"
    return Event(
        activity=name, at=at, resource="STAFF MEMBER" if role else "SYSTEM", role=role or "UNDEFINED", attributes=known
    )
