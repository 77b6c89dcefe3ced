"""``manage.py workflows_cluster``: the ticker and a django-q2 cluster together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections

from django_workflows.engine.stall import StallGuard

logger = logging.getLogger("django_workflows.cluster")

#: Seconds that the parts are given to finish what they have begun.
GRACE = 30.0

#: Seconds between two looks at the queue.
LOOK_EVERY = 2.0


class Command(BaseCommand):
    help = "Runs the ticker and the django-q2 cluster; if one of them ends, so does the other."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--stalled-after",
            type=float,
            default=180.0,
            metavar="SECONDS",
            help="replace a cluster that has taken no message for so long while none of its workers is busy (180)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["stalled_after"] <= 0:
            raise CommandError("--stalled-after must be positive.")
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        parts = [_part("qcluster"), _part("workflows_ticker")]
        guard, next_look = StallGuard(options["stalled_after"]), 0.0
        try:
            while not self._stopped and all(part.poll() is None for part in parts):
                time.sleep(0.2)
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK_EVERY
                    if _is_stalled(guard):
                        parts[0] = _replaced(parts[0])
                        guard.forget()
        finally:
            _end(parts)
        if not self._stopped:
            self.stderr.write("One of the parts ended by itself; the supervisor should start this command again.")
            sys.exit(1)

    def _stop(self, number: int, frame: Any) -> None:
        self._stopped = True


def _is_stalled(guard: StallGuard) -> bool:
    close_old_connections()
    try:
        return guard.is_stalled()
    except DatabaseError:
        return False  # while the database is away, nobody can take anything


def _replaced(part: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    logger.error("The cluster lives but takes no messages; it is killed, and another one started.")
    _kill_group(part)
    return _part("qcluster")


def _part(command: str) -> subprocess.Popen[bytes]:
    """A process of its own group, so that a cluster goes with its workers."""
    return subprocess.Popen([sys.executable, sys.argv[0], command], start_new_session=True)  # noqa: S603


def _end(parts: list[subprocess.Popen[bytes]]) -> None:
    for part in parts:
        if part.poll() is None:
            part.terminate()
    deadline = time.monotonic() + GRACE
    for part in parts:
        try:
            part.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill_group(part)


def _kill_group(part: subprocess.Popen[bytes]) -> None:
    """A cluster whose queue is stuck does not end by SIGTERM."""
    os.killpg(part.pid, signal.SIGKILL)
    part.wait()
