"""When a failed step is tried again. The answer is a value; nothing is scheduled here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django_workflows.exceptions import InvalidValue

from .durations import parse_duration

BACKOFFS: Final = ("fixed", "linear", "exponential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """``attempts`` in all, the first included. Between them ``delay``, growing by ``backoff`` up to ``cap``.

    ``delays`` lists them one by one instead; the last holds for all further ones.
    ``jitter`` (0 to 1) spreads the delay around its length by that fraction. ``retry_on`` and
    ``give_up_on`` are names of exception classes, simple or dotted; the latter win.
    """

    attempts: int = 1
    backoff: str = "exponential"
    delay: str = "1s"
    cap: str = "5m"
    jitter: float = 0.0
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()
    delays: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        found = []
        if self.attempts < 1:
            found.append(f"there must be at least one attempt, not {self.attempts}")
        if self.backoff not in BACKOFFS:
            found.append(f"unknown backoff {self.backoff!r}; allowed: {', '.join(BACKOFFS)}")
        if not 0 <= self.jitter <= 1:
            found.append(f"jitter lies between 0 and 1, not {self.jitter}")
        for text in (self.delay, self.cap, *self.delays):
            try:
                parse_duration(text)
            except InvalidValue as error:
                found.append(error.message)
        return found

    def delay_before(self, attempt: int, *, unit: float = 0.5) -> timedelta:
        """The wait before this attempt (2 is the first repetition); ``unit`` in [0, 1) places the jitter."""
        number = max(1, attempt - 1)
        if self.delays:
            text = self.delays[min(number, len(self.delays)) - 1]
            return parse_duration(text) * (1 - self.jitter / 2 + self.jitter * unit)
        growth = {"fixed": 1, "linear": number}.get(self.backoff) or 2 ** min(number - 1, 60)
        cap = parse_duration(self.cap)
        seconds = min(parse_duration(self.delay).total_seconds() * growth, cap.total_seconds())
        spread = 1 - self.jitter / 2 + self.jitter * unit
        return min(timedelta(seconds=seconds * spread), cap)

    def decide(
        self,
        *,
        attempt: int,
        error_names: tuple[str, ...],
        retryable: bool | None,
        retry_after: timedelta | None,
        unit: float,
    ) -> timedelta | None:
        """The wait before the next attempt, or ``None`` to give up.

        ``retryable`` is what the error itself says, if it does; ``error_names`` are the names of its classes.
        """
        if attempt >= self.attempts or retryable is False:
            return None
        if retryable is None:
            if any(name in self.give_up_on for name in error_names):
                return None
            if self.retry_on and not any(name in self.retry_on for name in error_names):
                return None
        return retry_after if retry_after is not None else self.delay_before(attempt + 1, unit=unit)
