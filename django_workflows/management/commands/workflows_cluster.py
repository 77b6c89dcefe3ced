"""``manage.py workflows_cluster``: the ticker and a django-q2 cluster together."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand

#: Seconds that the parts are given to finish what they have begun.
GRACE = 30.0


class Command(BaseCommand):
    help = "Runs the ticker and the django-q2 cluster; if one of them ends, so does the other."

    def handle(self, *args: Any, **options: Any) -> None:
        self._stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        parts = [_part("qcluster"), _part("workflows_ticker")]
        try:
            while not self._stopped and all(part.poll() is None for part in parts):
                time.sleep(0.2)
        finally:
            _end(parts)
        if not self._stopped:
            self.stderr.write("One of the parts ended by itself; the supervisor should start this command again.")
            sys.exit(1)

    def _stop(self, number: int, frame: Any) -> None:
        self._stopped = True


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
    import os  # only here, where POSIX process groups are meant

    os.killpg(part.pid, signal.SIGKILL)
    part.wait()
