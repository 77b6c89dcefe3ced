"""One run: a database of its own, ledgers, a fleet, and the wait until nothing moves any more."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import django

from tests.postgres import Server, temp_postgres

#: Seconds without any progress after which a run counts as stuck.
PATIENCE = 20.0


@contextmanager
def database(kind: str) -> Iterator[tuple[str, Server | None]]:
    """The URL of a fresh database that survives its own death: ``fsync`` is on."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="chaos_") as folder:
            yield f"sqlite:///{folder}/chaos.sqlite3", None
        return
    with temp_postgres(durable=True) as server:
        yield server.url, server


@contextmanager
def world(
    kind: str, *, settings: Mapping[str, Any] | None = None, workers: int = 4, executor: str = ""
) -> Iterator[Any]:
    """Everything a scenario needs; Django is set up here, so there is one world per process."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos_"))
        url, server = stack.enter_context(database(kind))
        os.environ |= {
            "DATABASE_URL": url,
            "CHAOS_FOLDER": folder,
            "CHAOS_WORKERS": str(workers),
            "CHAOS_SETTINGS": json.dumps(dict(settings or {})),
            "DJANGO_SETTINGS_MODULE": "benchmarks.chaos.settings",
        }
        if executor:
            os.environ["CHAOS_EXECUTOR"] = executor
        django.setup()
        _furnish()
        yield World(Path(folder), server)


def _furnish() -> None:
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    person = User.objects.create_user("robot")
    person.groups.add(Group.objects.create(name="people"))


class World:
    """``rng`` is seeded by the scenario, and its seed printed."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.folder, self.server = folder, server
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        self.rng = random.Random()

    def arm(self, failpoints: Mapping[str, int]) -> dict[str, str]:
        """Let so many processes die at each failpoint; returns the environment that brings it about."""
        for name, count in failpoints.items():
            for number in range(count):
                (self.tokens / f"{name}-{number:05}").touch()
        armed = ",".join(f"{name}:1" for name in failpoints)
        return {"WORKFLOWS_FAILPOINTS": armed, "WORKFLOWS_FAILPOINT_TOKENS": str(self.tokens)}

    def deaths(self) -> int:
        return len(list(self.tokens.glob("taken-*")))

    def pending(self) -> int:
        return len(list(self.tokens.glob("F*")))


def settle(fleet: Any, unfinished: Callable[[], int], *, limit: float = 1800.0) -> float:
    """Wait until nothing is unfinished, or no event is written for long. Returns the seconds it took."""
    started = moved = time.monotonic()
    seen: object = None
    while time.monotonic() - started < limit:
        fleet.supervise()
        if unfinished() == 0:
            break
        now = _newest_event()
        if now != seen:
            seen, moved = now, time.monotonic()
        elif time.monotonic() - moved > PATIENCE:
            break
        time.sleep(0.1)
    return time.monotonic() - started


def _newest_event() -> object:
    """Keys are made in the order of time."""
    from django.db import DatabaseError, connection

    from django_workflows.models import WorkflowEvent

    try:
        return WorkflowEvent.objects.order_by("-pk").values_list("pk", flat=True).first()
    except DatabaseError:
        connection.close()
        return None
