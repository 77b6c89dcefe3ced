"""R19 to R21: the database is cut off, stopped or killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from .course import Options, Result, fleet_of, seeded, send, unfinished
from .world import World, settle, world

BACKENDS = """select pid from pg_stat_activity
              where pid <> pg_backend_pid() and backend_type = 'client backend' order by random() limit 1"""


def database_faults(options: Options, disturb: Callable[[World], str], name: str, pause: tuple[float, float]) -> Result:
    """R19 to R21: the database is cut off, stopped or killed while clients start and workers work;
    ``pause`` is how many seconds, at least and at most, lie between two faults."""
    with world("postgres") as made:
        from . import checker
        from .workflows import MODES

        seeded(made, options)
        acknowledged: dict[str, list[UUID]] = {mode: [] for mode in MODES}
        faults, until, due = 0, time.monotonic() + options.seconds, 0.0
        with fleet_of(options) as fleet:
            for mode, flow in _in_turn(MODES):
                if time.monotonic() > until:
                    break
                number = sum(map(len, acknowledged.values()))
                acknowledged[mode].append(_start_surely(flow, f"{name}-{number}"))
                if time.monotonic() > due:
                    disturb(made)
                    faults += 1
                    due = time.monotonic() + made.rng.uniform(*pause)
                fleet.supervise()
                time.sleep(0.02)  # clients are slower than workers, or the wait at the end is all that is measured
            settle(fleet, _patiently(unfinished))
            fleet.stop()
        result = Result(test=name, database="postgres", n=faults, seed=options.seed)
        result.facts = {"instances": sum(map(len, acknowledged.values()))}
        for mode, keys in acknowledged.items():
            tally = checker.check_mode(mode, keys)
            result.modes[mode] = asdict(tally)
            result.add(tally)
        return result


def _in_turn(flows: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    while True:
        yield from flows.items()


def _start_surely(name: str, key: str) -> UUID:
    """What a client does that must not lose its request: again, with the same key."""
    from django.db import DatabaseError, InterfaceError, connection

    from django_workflows import services

    while True:
        try:
            return services.start(name, by=services.SYSTEM, idempotency_key=key).pk
        except (DatabaseError, InterfaceError):
            connection.close()
            time.sleep(0.05)


def _patiently(count: Callable[[], int]) -> Callable[[], int]:
    from django.db import DatabaseError, connection

    def counted() -> int:
        try:
            return count()
        except DatabaseError:
            connection.close()
            return 1

    return counted


def _outside_connection(made: World) -> Any:
    import psycopg

    if made.server is None:
        raise RuntimeError("This test needs PostgreSQL.")
    return psycopg.connect(made.server.url, autocommit=True)


def terminate_backend(made: World) -> str:
    with _outside_connection(made) as connection:
        connection.execute(f"select pg_terminate_backend(pid) from ({BACKENDS}) chosen")
    return "terminated"


def kill_backend(made: World) -> str:
    with _outside_connection(made) as connection:
        found = connection.execute(BACKENDS).fetchone()
    if found:
        send(found[0], signal.SIGKILL)
    return "killed"


def restart(made: World) -> str:
    if made.server is None:
        raise RuntimeError("This test needs PostgreSQL.")
    made.server.stop("immediate")
    time.sleep(made.rng.uniform(0.2, 1.5))
    made.server.start()
    return "restarted"


def backends(options: Options) -> Result:
    return database_faults(options, terminate_backend, "R19 backends", (0.3, 0.7))


def restarts(options: Options) -> Result:
    return database_faults(options, restart, "R20 restarts", (3.0, 8.0))


def crashes(options: Options) -> Result:
    return database_faults(options, kill_backend, "R21 crashes", (3.0, 8.0))
