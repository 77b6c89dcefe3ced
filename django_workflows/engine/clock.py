"""The one place that reads the clock.

What happens is dated, and what is due is judged, by the database's clock, which all workers share,
however wrong their own are. A source set by ``clock()`` takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

_source: ContextVar[Callable[[], datetime] | None] = ContextVar("django_workflows_clock", default=None)


class DatabaseClock(Now):
    """The present by the database's clock, also inside a long transaction."""

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="CLOCK_TIMESTAMP()", **extra)


def present() -> datetime | DatabaseClock:
    """The present for a filter: that of the source, if one is set, or the database's."""
    return DatabaseClock() if _source.get() is None else now()


def of(row: Any) -> datetime:
    """The present as the statement that read ``row`` saw it (its annotation ``db_now``)."""
    read: datetime | None = getattr(row, "db_now", None)
    return now() if read is None or _source.get() is not None else read


def now() -> datetime:
    """The present, aware, in UTC, by this machine's clock."""
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
