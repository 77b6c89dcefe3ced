"""Signs of life: while a body runs, one thread of the worker renews its lease and flushes its progress."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from django.db import connections

from django_workflows.conf import settings
from django_workflows.exceptions import TransitionNotAllowed

from .reporting import Reporter, Superseded

logger = logging.getLogger("django_workflows.heartbeat")


@dataclass(eq=False, slots=True, kw_only=True)
class Pulse:
    """One running body. ``renew`` gives ``False`` when the lease is somebody else's;
    ``expire`` is called once, when the body has outlived ``expires_at`` (monotonic seconds)."""

    renew: Callable[[], bool]
    reporter: Reporter
    renew_at: float
    expires_at: float = float("inf")
    expire: Callable[[], object] | None = None
    is_lost: bool = False


class Heart:
    """The thread, started when it is first needed, and the bodies it beats for."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a forked process, which has none of its parent's threads."""
        self._changed = threading.Condition()
        self._pulses: list[Pulse] = []
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self, pulse: Pulse) -> Iterator[Pulse]:
        with self._changed:
            self._pulses.append(pulse)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="workflows-heartbeat", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield pulse
        finally:
            with self._changed:
                self._pulses.remove(pulse)

    def _run(self) -> None:
        """Ends when there was nothing to do for a while; the next body starts it again."""
        while True:
            with self._changed:
                if not self._pulses and not self._changed.wait(IDLE) and not self._pulses:
                    self._thread = None
                    return
                pulses = tuple(self._pulses)
            for pulse in pulses:
                _beat(pulse)
            time.sleep(min(settings.PROGRESS_SECONDS, renew_every() / 2, 1.0))


def _beat(pulse: Pulse) -> None:
    now = time.monotonic()
    try:
        if now >= pulse.expires_at and pulse.expire is not None:
            expire, pulse.expire = pulse.expire, None
            expire()
        elif now >= pulse.renew_at and not pulse.is_lost:
            pulse.renew_at = now + renew_every()
            pulse.is_lost = not pulse.renew()
        elif not pulse.is_lost:
            pulse.reporter.flush_when_due()
    except (TransitionNotAllowed, Superseded):
        pulse.is_lost = True  # the attempt was taken over, or the instance has ended
    except Exception:  # the edge of a thread: the next beat tries again, and recovery is behind us
        logger.warning("A sign of life could not be given.", exc_info=True)
    finally:
        connections.close_all()  # this thread's


def renew_every() -> float:
    """Seconds between two renewals: three of them fit into a lease."""
    return float(settings.LEASE_SECONDS) / 3


#: Seconds for which the thread stays without a body to beat for.
IDLE = 10.0

_heart = Heart()


def beating(pulse: Pulse) -> AbstractContextManager[Pulse]:
    """Let the process give signs of life for a body while the block lasts."""
    return _heart.beating(pulse)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_heart.forget)
