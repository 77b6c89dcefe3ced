"""``manage.py workflows_ticker``: fires what is due and finds what is lost. Any number may run."""

from __future__ import annotations

import logging
import signal
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections

from django_workflows.conf import settings
from django_workflows.engine.recovery import sweep
from django_workflows.engine.retention import prune
from django_workflows.engine.timers import fire_due

logger = logging.getLogger("django_workflows.ticker")


class Command(BaseCommand):
    help = "Fires due timers, and queues again what got lost. Stops at SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="look once and stop, for cron")
        parser.add_argument(
            "--interval", type=float, default=None, help="seconds between two looks (WORKFLOWS_TICK_SECONDS)"
        )
        parser.add_argument("--sweep-every", type=float, default=15.0, help="seconds between two sweeps")

    def handle(self, *args: Any, **options: Any) -> None:
        interval = settings.TICK_SECONDS if options["interval"] is None else options["interval"]
        if interval <= 0 or options["sweep_every"] <= 0:
            raise CommandError("--interval and --sweep-every must be positive.")
        if options["once"]:
            self.stdout.write(
                f"{fire_due()} timers fired, {_swept()}, {prune(max_batches=1).deleted} instances pruned."
            )
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        _loop(stop, interval, options["sweep_every"])


def _swept() -> str:
    found = sweep()
    return ", ".join(f"{count} {what}" for what, count in found.items())


def _loop(stop: threading.Event, interval: float, sweep_every: float) -> None:
    next_sweep = 0.0
    while not stop.is_set():
        close_old_connections()
        try:
            fire_due()
            if time.monotonic() >= next_sweep:
                sweep()
                prune(max_batches=1)
                next_sweep = time.monotonic() + sweep_every
        except DatabaseError:
            logger.exception("The database did not answer; the ticker looks again in %s s.", interval)
        except Exception:  # the edge of a loop that others rely on
            logger.exception("The look at the agenda failed; the next one comes in %s s.", interval)
        stop.wait(interval)
