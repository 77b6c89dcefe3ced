"""The one place that reads the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from django.utils import timezone

_source: ContextVar[Callable[[], datetime] | None] = ContextVar("django_workflows_clock", default=None)


def now() -> datetime:
    """The present, aware, in UTC."""
    source = _source.get()
    return timezone.now() if source is None else source().astimezone(UTC)


@contextmanager
def clock(source: Callable[[], datetime]) -> Iterator[None]:
    """Let ``source`` tell the time in this context: for tests, simulations and replays.

    Leases are judged by the database's clock and do not follow.
    """
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)
