"""The processes that are killed, and the driver's hold on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self


class Fleet:
    """Processes by role, forked from a zygote and started again when they are found dead."""

    def __init__(self, roles: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.roles = list(roles)
        self._pids: dict[int, str] = {}
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.chaos.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.restarts = 0
        self.stalls = 0
        self._guard: Any = None
        self._next_look = 0.0

    def __enter__(self) -> Self:
        self.supervise()
        return self

    def __exit__(self, *error: object) -> None:
        for pid in list(self._pids):
            _kill_group(pid)
        self._zygote.kill()
        self._zygote.communicate()

    def start(self, role: str) -> int:
        if self._zygote.stdin is None or self._zygote.stdout is None:
            raise RuntimeError("The zygote has no pipes.")
        self._zygote.stdin.write(role + "\n")
        self._zygote.stdin.flush()
        answer = self._zygote.stdout.readline()
        if not answer:
            raise RuntimeError("The zygote has died; see its log.")
        self._pids[int(answer)] = role
        return int(answer)

    def supervise(self) -> None:
        """Start what is missing, as the supervisor of a real machine would; replace a cluster that is stalled."""
        self._replace_stalled()
        for pid in [pid for pid in self._pids if not _is_alive(pid)]:
            _kill_group(pid)  # what is left of a cluster whose head has died
            del self._pids[pid]
            self.restarts += 1
        present = list(self._pids.values())
        for role in self.roles:
            if role in present:
                present.remove(role)
            else:
                self.start(role)

    def _replace_stalled(self) -> None:
        """What ``manage.py workflows_cluster`` does: a worker that dies with the queue's lock takes all with it."""
        from django.db import DatabaseError

        from django_workflows.engine.stall import StallGuard

        if time.monotonic() < self._next_look or not self.pids("cluster"):
            return
        self._next_look = time.monotonic() + 1.0
        self._guard = self._guard or StallGuard(5.0)
        try:
            if not self._guard.is_stalled():
                return
        except DatabaseError:
            return
        self.stalls += 1
        self.kill("cluster")
        self._guard.forget()

    def pids(self, role: str) -> list[int]:
        return [pid for pid, found in self._pids.items() if found == role]

    def kill(self, role: str = "", number: int = signal.SIGKILL) -> None:
        """Send a signal to every group of a role, or of all; SIGKILL is waited for."""
        pids = [pid for pid, found in self._pids.items() if role in ("", found)]
        for pid in pids:
            _kill_group(pid, number)
        while number == signal.SIGKILL and any(map(_is_alive, pids)):
            time.sleep(0.005)

    def stop(self) -> None:
        """The clusters end as they do in a deployment, within some seconds; the rest at once."""
        for pid in self.pids("cluster"):
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 10
        while any(_is_alive(pid) for pid in self.pids("cluster")) and time.monotonic() < until:
            time.sleep(0.05)
        self.kill()


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return
