"""What is done to the fleet, by the numbers of the reliability tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from . import ledger
from .processes import Fleet
from .world import World, settle, world

ROLES = ("cluster", "ticker")
MANAGE = Path(__file__).resolve().parents[2] / "manage.py"


@dataclass(slots=True, kw_only=True)
class Options:
    database: str = "sqlite"
    n: int = 20
    seed: int = 0
    bug: str = ""
    at: tuple[str, ...] = ("F2",)
    seconds: float = 20.0


@dataclass(slots=True, kw_only=True)
class Result:
    """One line of the table; ``facts`` are what the test has to say beside the counts."""

    test: str
    database: str
    n: int
    seed: int
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    wrong: int = 0
    minutes: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    modes: dict[str, dict[str, Any]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, tally: Any) -> None:
        for name in ("lost", "duplicated", "stuck", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(tally, name))
        self.violations += tally.violations

    @property
    def is_red(self) -> bool:
        return bool(self.lost or self.stuck or self.wrong or self.violations)


def start_all(names: Sequence[str], count: int, *, data: Mapping[str, Any] | None = None) -> list[UUID]:
    """Start instances of these workflows in turn; returns those that were acknowledged."""
    from django_workflows import services

    return [services.start(names[number % len(names)], by=services.SYSTEM, data=data).pk for number in range(count)]


def _fleet(options: Options, roles: Sequence[str] = ROLES, environment: Mapping[str, str] | None = None) -> Fleet:
    return Fleet(roles, {**(environment or {}), "CHAOS_BUG": options.bug})


def _seeded(made: World, options: Options) -> World:
    made.rng.seed(options.seed)
    return made


def modes(options: Options) -> Result:
    """R1, R3: workers die at failpoints, or everything dies at random times, under all three modes."""

    places = [place for place in options.at if place != "random"]
    share = {place: options.n // len(options.at) for place in options.at}
    share[options.at[0]] += options.n - sum(share.values())
    with world(options.database) as made:
        from .workflows import MODES

        _seeded(made, options)
        environment = made.arm({place: share[place] for place in places}) if places else {}
        per_mode = options.n // 3 + 20 if places else max(150, options.n * 15)
        started = start_all(list(MODES.values()), per_mode * len(MODES))
        acknowledged = {mode: started[number :: len(MODES)] for number, mode in enumerate(MODES)}
        random_kills = 0
        with _fleet(options, environment=environment) as fleet:
            while random_kills < share.get("random", 0) and _unfinished():
                time.sleep(made.rng.uniform(0.2, 1.0))
                fleet.kill()
                random_kills += 1
                fleet.supervise()
            settle(fleet, _unfinished)
            fleet.stop()
        return _result_of_modes(options, acknowledged, made.deaths() + random_kills)


def _result_of_modes(options: Options, acknowledged: Mapping[str, list[UUID]], kills: int) -> Result:
    from . import checker

    result = Result(test=_name_of(options), database=options.database, n=kills, seed=options.seed)
    for mode, keys in acknowledged.items():
        tally = checker.check_mode(mode, keys)
        if tally.duplicated > (kills if mode == "at_least_once" else 0):
            tally.violations.append(f"{mode}: {tally.duplicated} duplicates by {kills} kills")
        result.modes[mode] = asdict(tally)
        result.add(tally)
    return result


def _name_of(options: Options) -> str:
    return f"R3 {options.at[0]}" if "random" in options.at else f"R1 {','.join(options.at)}"


def _unfinished() -> int:
    from .checker import unfinished

    return unfinished()


def failpoints(options: Options) -> Result:
    """R2: every failpoint in turn, under a workflow that meets every kind of transition."""
    with world(options.database) as made:
        from django_workflows.engine.failpoints import NAMES

        from . import checker

        environment = made.arm(dict.fromkeys(NAMES, options.n))
        count = options.n * 6 + 10
        acknowledged = start_all(["chaos-mixed"], count, data={"fails": True})
        with _fleet(options, (*ROLES, "robot", "pruner"), environment) as fleet:
            fed = [0]

            def left() -> int:
                # what is pruned while it is killed must be made anew, and so must what meets the last deaths
                if made.pending() and fed[0] < 40:
                    fed[0] += 1
                    start_all(["chaos-at-least-once"], 5)
                    acknowledged.extend(start_all(["chaos-mixed"], 5, data={"fails": True}))
                return _unfinished_mixed()

            settle(fleet, left)
            fleet.stop()
        tally = checker.check_mixed(acknowledged)
        result = Result(test="R2 F0-F12", database=options.database, n=made.deaths(), seed=options.seed)
        missed = sorted({path.name.partition("-")[0] for path in made.tokens.glob("F*")})
        result.facts = {"not reached": missed, "stalled clusters replaced": fleet.stalls}
        result.add(tally)
        return result


def _unfinished_mixed() -> int:
    """A person's correction is part of it: the robot makes it."""
    from django_workflows.models import WorkflowInstance

    return WorkflowInstance.objects.running().count()


def kill_all(options: Options) -> Result:
    """R4: everything is killed at once and started again; how long until something moves?"""
    with world(options.database) as made:
        from django_workflows.models import WorkflowEvent

        from . import checker

        _seeded(made, options)
        acknowledged = start_all(["chaos-mixed"], options.n * 4 + 20, data={"fails": False})
        waits = []
        with _fleet(options, (*ROLES, "robot")) as fleet:
            for _ in range(options.n):
                time.sleep(made.rng.uniform(0.3, 1.0))
                fleet.kill()
                before, started = WorkflowEvent.objects.count(), time.monotonic()
                fleet.supervise()
                while _unfinished_mixed() and WorkflowEvent.objects.count() == before:
                    time.sleep(0.02)
                waits.append(time.monotonic() - started)
            settle(fleet, _unfinished_mixed)
            fleet.stop()
        result = Result(test="R4 all at once", database=options.database, n=options.n, seed=options.seed)
        result.facts = {"first progress, s": {"median": round(median(waits), 2), "max": round(max(waits), 2)}}
        result.add(checker.check_mixed(acknowledged))
        if max(waits) > 10:
            result.violations.append(f"R4: after one kill nothing moved for {max(waits):.1f} s")
        return result


def shutdown(options: Options) -> Result:
    """R5: SIGTERM, and SIGKILL a second later, under load."""
    with world(options.database) as made:
        from . import checker

        _seeded(made, options)
        acknowledged = start_all(["chaos-mixed"], options.n * 4 + 20, data={"fails": True})
        with _fleet(options, (*ROLES, "robot")) as fleet:
            for _ in range(options.n):
                time.sleep(made.rng.uniform(0.3, 1.0))
                for pid in fleet.pids("cluster"):
                    os.kill(pid, signal.SIGTERM)
                time.sleep(1.0)
                fleet.kill("cluster")
                fleet.supervise()
            settle(fleet, _unfinished_mixed)
            fleet.stop()
        result = Result(test="R5 SIGTERM, SIGKILL", database=options.database, n=options.n, seed=options.seed)
        result.add(checker.check_mixed(acknowledged))
        return result


def poison(options: Options) -> Result:
    """R6, R7: steps that kill their worker, or eat its memory, end as incidents; the others go on."""
    with world(options.database, settings={"WORKFLOWS_MAX_RECOVERY_ATTEMPTS": 3}):
        from django_workflows.models import Incident, WorkflowInstance

        from . import checker

        count = options.n * 40
        with _fleet(options) as fleet:
            alone, _ = _paced(fleet, count)
            bad = start_all(["chaos-poison", "chaos-poison-transactional", "chaos-hungry"], 3)
            beside, acknowledged = _paced(fleet, count)
            settle(fleet, _unfinished)
            fleet.stop()
        result = Result(test="R6 R7 poison", database=options.database, n=3, seed=options.seed)
        result.facts = {"throughput beside poison": round(beside / alone, 2), "instances/s": round(alone, 1)}
        result.add(checker.check_mode("at_least_once", acknowledged))
        deaths = ledger.counts("deaths")
        for row in WorkflowInstance.objects.filter(pk__in=bad):
            number = sum(found for key, found in deaths.items() if key.startswith(str(row.pk)))
            if not Incident.objects.open().filter(instance=row).exists() or number > 6:
                result.violations.append(f"R6: {row.workflow} took {number} workers and has no incident")
        if beside < 0.8 * alone:
            result.violations.append(f"R6: throughput fell to {beside / alone:.0%}")
        return result


def _paced(fleet: Fleet, count: int) -> tuple[float, list[UUID]]:
    """Instances per second from their start until the last has ended; the poisoned ones do not count."""
    from django_workflows.models import WorkflowInstance

    started = time.monotonic()
    keys = start_all(["chaos-at-least-once"], count)

    def left() -> int:
        return WorkflowInstance.objects.running().filter(workflow="chaos-at-least-once").count()

    settle(fleet, left)
    return count / (time.monotonic() - started), keys


def idle(options: Options) -> Result:
    """R2, of a worker that does nothing: killed while it holds the queue's lock, it takes the cluster with it."""
    with world(options.database) as made:
        from . import checker

        _seeded(made, options)
        acknowledged: list[UUID] = []
        cluster = subprocess.Popen(
            [
                sys.executable,
                Path(__file__).resolve().parents[2] / "manage.py",
                "workflows_cluster",
                "--stalled-after",
                "4",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            for _ in range(options.n):
                acknowledged += start_all(["chaos-at-least-once"], 3)
                settle(_Nobody(), _unfinished)
                time.sleep(1.0)  # all workers are idle now, and the first of them holds the lock
                _kill_idle_worker(cluster.pid)
                acknowledged += start_all(["chaos-at-least-once"], 10)
                settle(_Nobody(), _unfinished)
        finally:
            cluster.terminate()
            cluster.wait(60)
        result = Result(test="R2 idle worker", database=options.database, n=options.n, seed=options.seed)
        result.add(checker.check_mode("at_least_once", acknowledged))
        return result


class _Nobody:
    """There is no fleet to supervise: the command does that."""

    def supervise(self) -> None: ...


def _kill_idle_worker(command: int) -> None:
    """The first child of the cluster's sentinel is its first worker."""
    cluster = next(pid for pid in _children(command) if "qcluster" in Path(f"/proc/{pid}/cmdline").read_text())
    sentinel = _children(cluster)[0]
    _signal(_children(sentinel)[0], signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def hangs(options: Options) -> Result:
    """R43: steps that hang are stopped by their timeout; a worker that cannot be stopped is replaced."""
    limits = {"WORKFLOWS_LEASE_SECONDS": 30, "WORKFLOWS_TIMEOUT_GRACE_SECONDS": 1.0}
    with world(options.database, settings=limits):
        from django_workflows.models import WorkflowEvent, WorkflowInstance

        from . import checker
        from .workflows import HANGING

        bad = start_all(list(HANGING), len(HANGING) * options.n)
        with _fleet(options) as fleet:
            settle(fleet, _unfinished)
            acknowledged = start_all(["chaos-at-least-once"], 40)
            settle(fleet, _unfinished)
            fleet.stop()
        result = Result(test="R43 hangs", database=options.database, n=len(bad), seed=options.seed)
        result.add(checker.check_mode("at_least_once", acknowledged))
        for row in WorkflowInstance.objects.filter(pk__in=bad):
            kinds = list(row.incidents.open().values_list("kind", flat=True))
            stopped = WorkflowEvent.objects.filter(instance=row, name="step_timed_out").count()
            if kinds != [HANGING[row.workflow]] or stopped != 1:
                result.violations.append(f"R43: {row.workflow} was stopped {stopped} times and has {kinds}")
        return result


def zombies(options: Options) -> Result:
    """R8: workers are frozen past their lease, and wake while others do their work, or have done it."""
    with world(options.database, settings={"WORKFLOWS_LEASE_SECONDS": 1}) as made:
        from . import checker

        _seeded(made, options)
        keys: list[UUID] = []
        herd = Herd(made)
        with _fleet(options) as fleet:
            until = time.monotonic() + 30 + options.n * 5
            while (_unfinished() or herd.frozen or len(herd.stopped) < options.n) and time.monotonic() < until:
                if len(herd.stopped) < options.n and _unfinished() < 3:
                    keys += start_all(["chaos-frozen"], 1)
                herd.freeze()
                herd.wake()
                fleet.supervise()
                time.sleep(0.02)
            herd.wake(everybody=True)
            time.sleep(1.5)  # the zombies' turn to do harm
            fleet.stop()
        result = Result(test="R8 zombies", database=options.database, n=len(herd.stopped), seed=options.seed)
        tally = checker.Tally(instances=len(keys))
        for key in keys:
            herd.check(key, tally)
        checker.check_house(tally, workflow="chaos-frozen")
        result.facts = {"effects": len(ledger.lines("effects")), "instances": len(keys)}
        result.add(tally)
        return result


class Herd:
    """Workers that are stopped in the middle of a first attempt; two of four stay awake."""

    def __init__(self, made: World) -> None:
        self.made = made
        self.frozen: dict[str, int] = {}
        self.stopped: set[str] = set()
        self._late: set[str] = set()
        self._seen: set[str] = set()

    def freeze(self) -> None:
        for line in ledger.lines("frozen"):
            key = line["key"]
            if line["attempt"] == 1 and key not in self._seen and len(self.frozen) < 2:
                self._seen.add(key)
                if time.time() - line["at"] < 0.4:
                    _signal(line["pid"], signal.SIGSTOP)
                    self.frozen[key] = line["pid"]
                    self.stopped.add(key)
                    if self.made.rng.random() < 0.5:
                        self._late.add(key)

    def wake(self, *, everybody: bool = False) -> None:
        """While the next attempt is under way, or after it has ended."""
        taken_over = {line["key"] for line in ledger.lines("frozen") if line["attempt"] > 1}
        ended = {line["key"] for line in ledger.lines("effects") if line["attempt"] > 1}
        for key in list(self.frozen):
            if everybody or key in (ended if key in self._late else taken_over):
                _signal(self.frozen.pop(key), signal.SIGCONT)

    def check(self, instance_id: UUID, tally: Any) -> None:
        """The recorded result is that of the current attempt, and nobody was replaced who was alive."""
        from django_workflows.models import StepExecution, WorkflowEvent

        found = StepExecution.objects.get(instance=instance_id)
        completed = WorkflowEvent.objects.filter(instance=instance_id, name="step_completed").count()
        if found.attempt > 1 and f"{instance_id}:freeze:1" not in self.stopped:
            tally.bad("wrong", f"{instance_id} was taken from a worker that was alive")
        if completed != 1 or found.output != f"attempt {found.attempt}":
            tally.bad(
                "wrong", f"{instance_id}: attempt {found.attempt}, completed {completed} times as {found.output!r}"
            )


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def messages(options: Options) -> Result:
    """R31: of ten messages one is lost, the others come one to five times, late and shuffled."""
    with world(options.database, executor="benchmarks.chaos.executor.UnreliableExecutor"):
        from . import checker
        from .workflows import MODES

        acknowledged = {mode: start_all([flow], options.n) for mode, flow in MODES.items()}
        with _fleet(options) as fleet:
            settle(fleet, _unfinished)
            fleet.stop()
        result = Result(test="R31 messages", database=options.database, n=options.n * 3, seed=options.seed)
        for mode, keys in acknowledged.items():
            tally = checker.check_mode(mode, keys)
            if tally.duplicated or tally.in_doubt:
                tally.violations.append(
                    f"{mode}: {tally.duplicated} duplicates, {tally.in_doubt} in doubt, by messages"
                )
            result.modes[mode] = asdict(tally)
            result.add(tally)
        return result


def database_faults(options: Options, disturb: Callable[[World], str], name: str, pause: tuple[float, float]) -> Result:
    """R19 to R21: the database is cut off, stopped or killed while clients start and workers work;
    ``pause`` is how many seconds, at least and at most, lie between two faults."""
    with world("postgres") as made:
        from . import checker
        from .workflows import MODES

        _seeded(made, options)
        acknowledged: dict[str, list[UUID]] = {mode: [] for mode in MODES}
        faults, until, due = 0, time.monotonic() + options.seconds, 0.0
        with _fleet(options) as fleet:
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
            settle(fleet, _patiently(_unfinished))
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


BACKENDS = """select pid from pg_stat_activity
              where pid <> pg_backend_pid() and backend_type = 'client backend' order by random() limit 1"""


def terminate_backend(made: World) -> str:
    with _outside_connection(made) as connection:
        connection.execute(f"select pg_terminate_backend(pid) from ({BACKENDS}) chosen")
    return "terminated"


def kill_backend(made: World) -> str:
    with _outside_connection(made) as connection:
        found = connection.execute(BACKENDS).fetchone()
    if found:
        _signal(found[0], signal.SIGKILL)
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


#: Name -> the scenario; those of the second table need PostgreSQL.
SCENARIOS: dict[str, Callable[[Options], Result]] = {
    "R1": modes,
    "R2": failpoints,
    "R3": modes,
    "R4": kill_all,
    "R5": shutdown,
    "R6": poison,
    "R8": zombies,
    "R31": messages,
    "R43": hangs,
    "R2-idle": idle,
}
ON_POSTGRES: dict[str, Callable[[Options], Result]] = {"R19": backends, "R20": restarts, "R21": crashes}
