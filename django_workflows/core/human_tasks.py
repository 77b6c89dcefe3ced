"""Quorum calculus: when is a question answered, and how.

Pure arithmetic on counts, so that delegation, reassignment and changes of membership
can never alter a threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final, Literal

QUORUM_KINDS: Final = ("any", "all", "count", "percentage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """How many positive answers a question needs.

    ``any``: the first answer decides. ``all``: everybody. ``count``: ``value`` of them.
    ``percentage``: ``value`` percent of the electorate, rounded up to whole people.
    """

    kind: Literal["any", "all", "count", "percentage"] = "any"
    value: int = 0

    def needed(self, electorate: int) -> int:
        """The number of positive answers that settles it, at least one."""
        if self.kind == "count":
            return self.value
        if self.kind == "all":
            return max(1, electorate)
        if self.kind == "percentage":
            return max(1, ceil(Fraction(self.value * electorate, 100)))
        return 1

    def problems(self) -> list[str]:
        if self.kind not in QUORUM_KINDS:
            return [f"unknown kind {self.kind!r}; allowed: {', '.join(QUORUM_KINDS)}"]
        if self.kind == "count" and self.value < 1:
            return [f"a count must be at least 1, not {self.value}"]
        if self.kind == "percentage" and not 1 <= self.value <= 100:
            return [f"a percentage lies between 1 and 100, not {self.value}"]
        return []

    def __str__(self) -> str:
        return {"count": f"{self.value} of them", "percentage": f"{self.value} %"}.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``outcome`` is empty while the question is open; ``reason`` says what is missing, or what decided."""

    outcome: str = ""
    reason: str = ""


def evaluate(quorum: Quorum, outcomes: Sequence[str], counts: Mapping[str, int], electorate: int) -> Verdict:
    """Judge the answers given so far; the first of ``outcomes`` is the positive one.

    A vote that can no longer succeed fails at once, with the commonest of the other
    outcomes; a tie goes to the one declared first.
    """
    given = sum(counts.values())
    if not given:
        return Verdict(reason=f"{quorum.needed(electorate)} more needed")
    if quorum.kind == "any":
        return Verdict(outcome=next(outcome for outcome in counts if counts[outcome]), reason="first answer")
    positive = outcomes[0]
    needed, yes = quorum.needed(electorate), counts.get(positive, 0)
    if yes >= needed:
        return Verdict(outcome=positive, reason=f"{yes} of {needed} needed answered {positive}")
    silent = max(0, electorate - given)
    if given > yes and (quorum.kind == "all" or yes + silent < needed):
        others = [outcome for outcome in outcomes[1:] if counts.get(outcome)]
        winner = max(others, key=lambda outcome: counts[outcome])
        return Verdict(
            outcome=winner, reason=f"{positive} is out of reach: {yes} given, {silent} open, {needed} needed"
        )
    spare = yes + silent - needed
    more = f"{needed - yes} more needed"
    return Verdict(
        reason=f"{more}, {spare + 1} contrary answer(s) would fail it" if spare >= 0 else f"{more}, {silent} open"
    )
