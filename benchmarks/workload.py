"""What is measured: our engine, and a floor that stores the same rows by hand-written Django code.

The floor has no graph, no authority, no forms and no signals: only the rows and the transactions. Both
leave the same number of rows in every table, which ``row_counts`` shows.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone

from django_workflows import Workflow, approval, group, machine, services, step_function
from django_workflows.models import (
    Decision,
    HumanTask,
    StepExecution,
    TaskCandidate,
    Timer,
    WorkflowDefinition,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.models.keys import new_id

TABLES = (WorkflowInstance, StepExecution, HumanTask, TaskCandidate, Decision, Timer, WorkflowEvent)
STEPS = 10


@step_function(name="bench.score")
def score(ctx: Any) -> dict[str, Any]:
    ctx.data["score"] = ctx.data["amount"] * 2
    return {"score": ctx.data["score"]}


@step_function(name="bench.finish")
def finish(ctx: Any) -> dict[str, Any]:
    ctx.data["result"] = "approved"
    return {"result": "approved"}


@step_function(name="bench.count")
def count(ctx: Any) -> None:
    ctx.data["score"] += 1


class Request(Workflow):
    """Scenario A: start, inline step, approval, inline step, end."""

    name = "bench-a"
    compute = machine(score, mode="inline")
    approve = approval(assign=group("managers"))
    finish = machine(finish, mode="inline")


class Queued(Workflow):
    """The same with the last step in the queue."""

    name = "bench-queued"
    compute = machine(score, mode="inline")
    approve = approval(assign=group("managers"))
    finish = machine(finish, mode="transactional")


def _chain() -> type[Workflow]:
    body: dict[str, Any] = {f"s{number}": machine(count, mode="transactional") for number in range(STEPS)}
    for name, draft in body.items():
        draft.name = name
    return type("TenSteps", (Workflow,), {"name": "bench-chain", **body})


TenSteps = _chain()


class World:
    """The people, the definitions, and the two ways to run them."""

    def __init__(self) -> None:
        self.group = Group.objects.create(name="managers")
        self.managers = [User.objects.create_user(f"manager{number}") for number in range(5)]
        self.group.user_set.add(*self.managers)
        self.manager, self.starter = self.managers[0], User.objects.create_user("starter")
        for workflow in (Request, Queued, TenSteps):
            services.publish(workflow, by=services.SYSTEM)
        self.definition = WorkflowDefinition.objects.get(name="bench-a")
        self.chain_definition = WorkflowDefinition.objects.get(name="bench-chain")

    # ours

    def start(self, number: int) -> UUID:
        return services.start("bench-a", by=self.starter, data={"amount": 100 + number}).pk

    def decide(self, key: UUID) -> None:
        task = HumanTask.objects.filter(instance=key).values_list("pk", flat=True).get()
        services.decide(task, "approved", by=self.manager, comment="looks fine")

    def chain(self, number: int) -> None:
        services.start("bench-chain", by=self.starter, data={"score": 0})

    def inbox(self) -> int:
        return len(list(HumanTask.objects.inbox(self.manager).select_related("instance")[:20]))

    # the floor

    def floor_start(self, number: int) -> UUID:
        now, data = timezone.now(), {"amount": 100 + number}
        with transaction.atomic():
            data["score"] = data["amount"] * 2
            instance = WorkflowInstance.objects.create(
                definition=self.definition, workflow="bench-a", status="waiting", data=data, initiator=self.starter,
                initiator_name="starter", started_at=now, updated_at=now, sequence=5, state=_state("approve", 2, now),
                results={"compute": {"outcome": "succeeded", "output": {"score": data["score"]}}},
            )  # fmt: skip
            done = _step(instance, "compute", "machine", 1, now, status="succeeded", completed_at=now, duration=0.0)
            waiting = _step(instance, "approve", "approval", 2, now, status="waiting")
            StepExecution.objects.bulk_create([done, waiting])
            task = HumanTask.objects.create(
                pk=waiting.pk, instance=instance, execution=waiting, step="approve", title="Approve", electorate=5,
                created_at=now, resolution=_RESOLUTION,
            )  # fmt: skip
            TaskCandidate.objects.create(task=task, group=self.group)
            self._lines(instance, 1, now, *_START_LINES)
        return instance.pk

    def floor_decide(self, key: UUID) -> None:
        task_key = HumanTask.objects.filter(instance=key).values_list("pk", flat=True).get()
        with transaction.atomic():
            instance = WorkflowInstance.objects.select_for_update().get(pk=key)
            task = HumanTask.objects.get(pk=task_key)
            now = timezone.now()
            Decision.objects.create(
                task=task, actor=self.manager, actor_name="manager0", outcome="approved", comment="looks fine",
                decided_at=now,
            )  # fmt: skip
            task.status, task.outcome, task.completed_at = "completed", "approved", now
            task.completed_by, task.completed_by_name = self.manager, "manager0"
            task.save(update_fields=["status", "outcome", "completed_at", "completed_by", "completed_by_name"])
            TaskCandidate.objects.filter(task=task).update(is_open=False)
            StepExecution.objects.filter(pk=task.execution_id).update(
                status="succeeded", outcome="approved", completed_at=now, duration=1.0, completed_by=self.manager,
                completed_by_name="manager0",
            )  # fmt: skip
            last = _step(instance, "finish", "machine", 3, now, status="succeeded", completed_at=now, duration=0.0)
            StepExecution.objects.bulk_create([last])
            self._lines(instance, 6, now, *_DECIDE_LINES)
            instance.data["result"] = "approved"
            instance.results |= {"approve": {"outcome": "approved"}, "finish": {"outcome": "succeeded"}}
            instance.status, instance.outcome, instance.completed_at = "completed", "approved", now
            instance.sequence, instance.updated_at, instance.state = 11, now, _state("", 3, now)
            instance.save(
                update_fields=[
                    "data", "results", "status", "outcome", "completed_at", "sequence", "updated_at", "state",
                ]
            )  # fmt: skip

    def floor_chain(self, number: int) -> None:
        now = timezone.now()
        with transaction.atomic():
            instance = WorkflowInstance.objects.create(
                definition=self.chain_definition, workflow="bench-chain", status="running", data={"score": 0},
                initiator=self.starter, initiator_name="starter", started_at=now, updated_at=now, sequence=2,
                state=_state("s0", 1, now),
            )  # fmt: skip
            StepExecution.objects.bulk_create([_step(instance, "s0", "machine", 1, now, status="scheduled")])
            self._lines(instance, 1, now, "workflow_started", "step_scheduled")
        for position in range(STEPS):
            self._floor_step(instance.pk, position)

    def _floor_step(self, key: UUID, position: int) -> None:
        with transaction.atomic():
            instance = WorkflowInstance.objects.select_for_update().get(pk=key)
            now, is_last = timezone.now(), position == STEPS - 1
            instance.data["score"] += 1
            instance.results[f"s{position}"] = {"outcome": "succeeded", "output": None}
            StepExecution.objects.filter(instance=instance, step=f"s{position}").update(
                status="succeeded", outcome="succeeded", started_at=now, completed_at=now, duration=0.0,
                completed_by_name="system",
            )  # fmt: skip
            if is_last:
                instance.status, instance.outcome, instance.completed_at = "completed", "completed", now
                names = ("step_started", "step_completed", "workflow_completed")
            else:
                following = _step(instance, f"s{position + 1}", "machine", position + 2, now, status="scheduled")
                StepExecution.objects.bulk_create([following])
                names = ("step_started", "step_completed", "step_scheduled")
            self._lines(instance, instance.sequence + 1, now, *names)
            instance.sequence, instance.updated_at = instance.sequence + 3, now
            instance.state = _state("" if is_last else f"s{position + 1}", position + 2, now)
            fields = ["data", "results", "status", "outcome", "completed_at", "sequence", "updated_at", "state"]
            instance.save(update_fields=fields)

    def _lines(self, instance: WorkflowInstance, first: int, now: Any, *names: str) -> None:
        WorkflowEvent.objects.bulk_create(
            WorkflowEvent(
                instance=instance, definition_id=instance.definition_id, sequence=first + number, name=name, at=now,
                step="approve", occurrence=1, step_index=1, attempt=1, actor=self.manager, actor_name="manager0",
                payload=_PAYLOAD,
            )
            for number, name in enumerate(names)
        )  # fmt: skip

    # filling

    def fill(self, total: int) -> None:
        """Grow the stored history to ``total`` instances, one in ten of them waiting for the managers."""
        have = WorkflowInstance.objects.count()
        for first in range(have, total, 1000):
            self._fill(range(first, min(first + 1000, total)))

    def _fill(self, numbers: range) -> None:
        now = timezone.now()
        instances, steps, tasks, candidates, lines = [], [], [], [], []
        for number in numbers:
            waits = number % 10 == 0
            status = "waiting" if waits else "completed"
            instance = WorkflowInstance(
                definition=self.definition, workflow="bench-a", status=status, data={"amount": number},
                initiator=self.starter, initiator_name="starter", started_at=now, updated_at=now, sequence=5,
                completed_at=None if waits else now, state=_state("approve" if waits else "", 2, now),
            )  # fmt: skip
            step = _step(instance, "approve", "approval", 1, now, status="waiting" if waits else "succeeded")
            task = HumanTask(
                pk=step.pk, instance=instance, execution=step, step="approve", title="Approve", created_at=now,
                status="open" if waits else "completed", outcome="" if waits else "approved",
                completed_at=None if waits else now,
            )  # fmt: skip
            owner = self.managers[(number // 10) % 5]
            instances.append(instance)
            steps.append(step)
            tasks.append(task)
            candidates.append(TaskCandidate(task=task, user=owner, is_open=waits))
            lines += [
                WorkflowEvent(
                    instance=instance, definition=self.definition, sequence=place, name="step_started", at=now,
                    actor_name="starter",
                )
                for place in range(1, 6)
            ]  # fmt: skip
        with transaction.atomic():
            for model, rows in zip(
                (WorkflowInstance, StepExecution, HumanTask, TaskCandidate, WorkflowEvent),
                (instances, steps, tasks, candidates, lines),
                strict=True,
            ):
                model._default_manager.bulk_create(rows, batch_size=500)


_PAYLOAD = {"type": "approval", "status": "waiting", "scope": "", "branch": "", "worker": ""}
_RESOLUTION = {"rule": {"groups": ["managers"], "membership": "live"}, "electorate": 5}
_START_LINES = ("workflow_started", "step_started", "step_completed", "step_started", "human_task_created")
_DECIDE_LINES = (
    "human_task_decided",
    "human_task_completed",
    "step_completed",
    "step_started",
    "step_completed",
    "workflow_completed",
)


def _state(step: str, index: int, now: Any) -> dict[str, Any]:
    token = {"step": step, "occurrence": 1, "index": index, "status": "waiting", "since": now.isoformat(), "attempt": 1}
    tokens = {f"{step}#1": token} if step else {}
    return {"format": 1, "version": "1", "entered": index, "visits": {}, "tokens": tokens, "ids": {}}


def _step(instance: Any, name: str, kind: str, index: int, now: Any, **fields: Any) -> StepExecution:
    return StepExecution(
        pk=new_id(),
        instance=instance,
        step=name,
        step_type=kind,
        index=index,
        started_at=now,
        scheduled_at=now,
        **fields,
    )


def row_counts() -> dict[str, int]:
    return {model._meta.model_name or "": model._default_manager.count() for model in TABLES}
