"""The invariants, looked at when nothing moves any more (see the numbers I1 to I11 in docs/reliability.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, F

from django_workflows import services
from django_workflows.models import Decision, HumanTask, Incident, StepExecution, WorkflowEvent, WorkflowInstance
from django_workflows.states import INSTANCE_ENDED, IncidentStatus, InstanceStatus

from . import ledger
from .models import LedgerLine
from .workflows import MODES


@dataclass(slots=True)
class Tally:
    """What became of the instances of one kind; ``violations`` are sentences."""

    instances: int = 0
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    wrong: int = 0
    in_doubt: int = 0
    violations: list[str] = field(default_factory=list)

    def bad(self, what: str, sentence: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if len(self.violations) < 50:
            self.violations.append(f"{what}: {sentence}")


def check_mode(mode: str, acknowledged: Collection[Any]) -> Tally:
    """The instances of a mode's workflow against both ledgers."""
    tally = Tally(instances=len(acknowledged))
    rows = {row.pk: row for row in WorkflowInstance.objects.filter(workflow=MODES[mode])}
    effects = inside() if mode == "transactional" else ledger.counts("effects")
    for key in acknowledged:
        row = rows.get(key)
        if row is None:
            tally.bad("lost", f"{key} was acknowledged and is gone (I1)")
            continue
        _check_end(row, tally)
        for execution in row.step_executions.all():
            _check_effect(mode, execution, effects[f"{row.pk}:{execution.step}:{execution.occurrence}"], tally)
    check_house(tally, workflow=MODES[mode])
    _check_keys(mode, tally)
    return tally


def inside() -> Counter[str]:
    """The ledger in the database: key -> lines."""
    found = LedgerLine.objects.order_by().values_list("key").annotate(count=Count("pk"))
    return Counter(dict(found))


def _check_end(row: WorkflowInstance, tally: Tally) -> None:
    """I1: terminal, or with an incident; nothing here waits for anybody."""
    if row.status in INSTANCE_ENDED:
        return
    kinds = set(row.incidents.open().values_list("kind", flat=True))
    if "in_doubt" in kinds:
        tally.in_doubt += 1
    elif not kinds:
        tally.bad("stuck", f"{row.pk} is {row.status} and has no incident (I1)")


def _check_effect(mode: str, execution: StepExecution, count: int, tally: Tally) -> None:
    """I2 and I3: as many effects as the mode promises."""
    name, done = f"{execution.instance_id} {execution.key}", execution.status == "succeeded"
    if done and count == 0:
        tally.bad("lost", f"{name} is done without an effect")
    if count > 1:
        tally.duplicated += count - 1
        if mode != "at_least_once":
            tally.violations.append(f"duplicated: {name} has {count} effects, promised is one")
    if mode == "transactional" and count and not done:
        tally.bad("wrong", f"{name} has an effect and is {execution.status}")


def _check_keys(mode: str, tally: Tally) -> None:
    """I3: a repeat carries the key of the first attempt, which is that of a step execution."""
    if mode == "transactional":
        return
    known = {
        f"{instance}:{step}:{occurrence}"
        for instance, step, occurrence in StepExecution.objects.values_list("instance_id", "step", "occurrence")
    }
    for key in ledger.counts("effects"):
        if key not in known:
            tally.bad("wrong", f"an effect has the key {key}, which no step execution has")


def check_mixed(acknowledged: Collection[Any]) -> Tally:
    """The instances that meet every kind of transition."""
    tally = Tally(instances=len(acknowledged))
    rows = {row.pk: row for row in WorkflowInstance.objects.filter(workflow="chaos-mixed")}
    outside_effects, inside_effects = ledger.counts("effects"), inside()
    for key in acknowledged:
        row = rows.get(key)
        if row is None:
            tally.bad("lost", f"{key} was acknowledged and is gone (I1)")
            continue
        if row.status != InstanceStatus.COMPLETED or row.outcome != "booked":
            tally.bad("stuck", f"{key} is {row.status} as {row.outcome!r}")
            continue
        for step in ("begin", "pay", "note", "book"):
            _expect_once(tally, f"{key}:{step}:1", inside_effects)
        for step in ("call", "again"):
            if not outside_effects[f"{key}:{step}:1"]:
                tally.bad("lost", f"{key} {step} has no effect")
    tally.duplicated += sum(max(0, outside_effects[f"{key}:call:1"] - 1) for key in acknowledged if key in rows)
    _check_decisions(tally)
    _check_timers(tally)
    check_house(tally, workflow="chaos-mixed")
    return tally


def _expect_once(tally: Tally, key: str, effects: Counter[str]) -> None:
    if effects[key] == 0:
        tally.bad("lost", f"{key} has no effect")
    elif effects[key] > 1:
        tally.bad("wrong", f"{key} has {effects[key]} effects in the database, promised is one")


def _check_decisions(tally: Tally) -> None:
    """I5: one decision per task, and none that was acknowledged is missing."""
    per_task = Counter(str(key) for key in Decision.objects.values_list("task_id", flat=True))
    for task, count in per_task.items():
        if count > 1:
            tally.bad("wrong", f"task {task} has {count} decisions (I5)")
    for key in ledger.counts("decisions"):
        if not per_task[key]:
            tally.bad("lost", f"the decision of task {key} was acknowledged and is gone (I5)")
    late = HumanTask.objects.open().filter(instance__status__in=INSTANCE_ENDED)
    for key in late.values_list("pk", flat=True):
        tally.bad("wrong", f"task {key} is open in an instance that has ended (I8)")


def _check_timers(tally: Tally) -> None:
    """I10: no timer fires early, and its effect comes once."""
    fired = WorkflowEvent.objects.filter(name="timer_fired")
    for line in fired:
        if line.at.isoformat() < line.payload["due_at"]:
            tally.bad(
                "wrong", f"a timer of {line.instance_id} fired at {line.at}, before {line.payload['due_at']} (I10)"
            )
    twice = fired.values("instance", "step", "occurrence", "payload__timer", "payload__due_at").annotate(n=Count("pk"))
    for found in twice.filter(n__gt=1):
        tally.bad("wrong", f"a timer of {found['instance']} fired {found['n']} times (I10)")


def check_house(tally: Tally, workflow: str) -> None:
    """I4, I6, I7 and I8: the doctor finds nothing, and nothing happens twice or after the end."""
    for finding in services.examine(by=services.SYSTEM, workflow=workflow):
        what = "stuck" if finding.kind in ("stuck", "lost") else "wrong"
        tally.bad(what, f"{finding.instance_id} {finding.place}: {finding.message} (I4, I8)")
    lines = WorkflowEvent.objects.filter(instance__workflow=workflow)
    done = lines.filter(name="step_completed").values("instance", "step", "occurrence").annotate(n=Count("pk"))
    for found in done.filter(n__gt=1):
        tally.bad("wrong", f"{found['instance']} {found['step']} was completed {found['n']} times (I2)")
    stale = lines.filter(
        name="step_completed",
        instance__step_executions__step=F("step"),
        instance__step_executions__occurrence=F("occurrence"),
        instance__step_executions__attempt__gt=F("attempt"),
    )
    for line in stale:
        tally.bad(
            "wrong", f"{line.instance_id} {line.key} was completed by attempt {line.attempt}, which was over (I6)"
        )
    absorbing = lines.filter(name__in=("workflow_completed", "workflow_failed", "workflow_canceled"))
    for line in absorbing.filter(instance__sequence__gt=F("sequence")):
        tally.bad("wrong", f"{line.instance_id} went on after its end (I7)")


def unfinished() -> int:
    """How many instances neither ended nor wait for a person's judgement."""
    open_incidents = Incident.objects.filter(status=IncidentStatus.OPEN).values("instance")
    return WorkflowInstance.objects.running().exclude(pk__in=open_incidents).count()
