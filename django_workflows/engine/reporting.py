"""Progress on its way to the history: throttled, so that a chatty step costs few writes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from django.db import DatabaseError

from django_workflows.conf import settings
from django_workflows.states import EventName

logger = logging.getLogger("django_workflows.reporting")

#: So many reports are written at once without waiting any longer.
MANY: Final = 500

Report = dict[str, Any]


class Superseded(BaseException):
    """The attempt is no longer the current one: its body goes no further, and what it made is not recorded.

    No ``Exception``, so that no body takes it for an error of its own.
    """


class Reporter:
    """Gathers what a body reports and writes it at most every ``WORKFLOWS_PROGRESS_SECONDS``.

    Of several reports of progress in a row the last one counts; actions are all kept. Without
    ``write`` everything is kept until ``close``, for a body whose transaction is open.
    """

    def __init__(self, write: Callable[[list[Report]], object] | None = None) -> None:
        self._write = write
        self._pending: list[Report] = []
        self._written_at = float("-inf")
        self._lock = threading.RLock()
        self._is_closed = False

    def add(self, report: Report) -> None:
        with self._lock:
            is_progress = report["event"] == EventName.STEP_PROGRESS
            if is_progress and self._pending and self._pending[-1]["event"] == EventName.STEP_PROGRESS:
                self._pending.pop()
            self._pending.append(report)
            if len(self._pending) >= MANY or time.monotonic() >= self._due_at():
                self.flush()

    def flush_when_due(self) -> None:
        """Called from time to time beside the body, so that its last word is not kept for long."""
        with self._lock:
            if self._pending and time.monotonic() >= self._due_at():
                self.flush()

    def flush(self) -> None:
        with self._lock:
            if self._write is None or self._is_closed or not self._pending:
                return
            self._written_at = time.monotonic()
            try:
                self._write(self._pending)
            except DatabaseError:
                logger.warning("Progress could not be written; it is kept.", exc_info=True)
            else:
                self._pending = []

    def close(self) -> list[Report]:
        """Write nothing more; returns what is left, for the completion to record."""
        with self._lock:
            self._is_closed = True
            left, self._pending = self._pending, []
            return left

    def _due_at(self) -> float:
        return self._written_at + float(settings.PROGRESS_SECONDS)
