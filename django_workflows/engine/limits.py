"""Stopping a body that takes too long."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_workflows.exceptions import StepTimeout


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise ``StepTimeout`` inside the block when its time is up, and once more every second after.

    Only the main thread of a process can be stopped, and only between two instructions of Python: a
    worker's can. Elsewhere the block is left to run, and judged when it is through. Where an alarm is
    set already that comes sooner (django-q2's own), that one is left in force.
    """
    if seconds is None:
        yield
        return
    started = time.monotonic()
    if _can_interrupt() and not 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= seconds:
        with _alarm(seconds):
            yield
    else:
        yield
        if time.monotonic() - started > seconds:
            raise StepTimeout(seconds)


def _can_interrupt() -> bool:
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    over = False

    def stop(number: int, frame: Any) -> None:
        if not over:
            raise StepTimeout(seconds)

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        try:
            yield
        finally:
            over = True
    finally:  # also if the alarm came in the line above
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - started)), every)
