"""R6, R8, R43: steps that kill, devour, block or freeze their workers, and a worker that dies idle."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from . import ledger
from .course import Options, Result, fleet_of, seeded, send, start_all, unfinished
from .processes import Fleet
from .world import World, settle, world

MANAGE = Path(__file__).resolve().parents[2] / "manage.py"


def poison(options: Options) -> Result:
    """R6, R7: steps that kill their worker, or eat its memory, end as incidents; the others go on."""
    with world(options.database, settings={"WORKFLOWS_MAX_RECOVERY_ATTEMPTS": 3}):
        from django_workflows.models import Incident, WorkflowInstance

        from . import checker

        count = options.n * 200  # long enough for what a death costs to be told from noise
        with fleet_of(options) as fleet:
            before, first = _paced(fleet, count)
            bad = start_all(["chaos-poison", "chaos-poison-transactional", "chaos-hungry"], 3)
            beside, second = _paced(fleet, count)
            settle(fleet, unfinished)
            after, third = _paced(fleet, count)
            alone, acknowledged = (before + after) / 2, [*first, *second, *third]
            settle(fleet, unfinished)
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

        seeded(made, options)
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
                settle(_Nobody(), unfinished)
                time.sleep(1.0)  # all workers are idle now, and the first of them holds the lock
                _kill_idle_worker(cluster.pid)
                acknowledged += start_all(["chaos-at-least-once"], 10)
                settle(_Nobody(), unfinished)
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
    send(_children(sentinel)[0], signal.SIGKILL)


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
        with fleet_of(options) as fleet:
            settle(fleet, unfinished)
            acknowledged = start_all(["chaos-at-least-once"], 40)
            settle(fleet, unfinished)
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

        seeded(made, options)
        keys: list[UUID] = []
        herd = Herd(made)
        with fleet_of(options) as fleet:
            until = time.monotonic() + 30 + options.n * 5
            while (unfinished() or herd.frozen or len(herd.stopped) < options.n) and time.monotonic() < until:
                if len(herd.stopped) < options.n and unfinished() < 3:
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
                    send(line["pid"], signal.SIGSTOP)
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
                send(self.frozen.pop(key), signal.SIGCONT)

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
