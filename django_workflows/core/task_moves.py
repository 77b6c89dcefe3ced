"""What may be done to a human task, once authority and form have been looked at."""

from __future__ import annotations

from django_workflows.exceptions import AlreadyDecided, TaskClaimed, TransitionNotAllowed
from django_workflows.states import TaskStatus

from . import commands as c
from .events import EventName
from .human_tasks import Quorum
from .instance_moves import check_live
from .run import Run
from .snapshot import Token
from .steps import HumanStep


def _task_token(run: Run, key: str) -> Token:
    check_live(run, "change a task")
    token = run.snapshot.tokens.get(key)
    if token is None or token.task is None:
        raise TransitionNotAllowed(f"The task {key} is closed.", status=TaskStatus.COMPLETED, key=key)
    return token


def decide(run: Run, command: c.Decide) -> None:
    check_live(run, "decide")
    token = run.snapshot.tokens.get(command.key)
    step = run.definition.by_name.get(command.key.rpartition("#")[0])
    if token is None or not isinstance(step, HumanStep):
        raise AlreadyDecided(
            f"The task {command.key} is closed; it cannot be decided any more.",
            status="closed",
            key=command.key,
        )
    step.decide(run, token, command)


def claim(run: Run, command: c.Claim) -> None:
    token = _task_token(run, command.key)
    task, policy = token.task, _quorum(run, token)
    if task is not None and task.holder and task.holder != command.by.id:
        raise TaskClaimed(
            f"{task.holder_name} holds the task {command.key}.", status=task.status, holder=task.holder_name
        )
    if task is None or task.claimed:
        raise TransitionNotAllowed(f"You hold the task {command.key} already.", status="claimed", key=command.key)
    if policy.kind != "any":
        raise TransitionNotAllowed(
            f"The task {command.key} is put to several people ({policy}); it is decided without being claimed.",
            status=task.status,
            key=command.key,
        )
    run.emit(EventName.HUMAN_TASK_CLAIMED, token)


def _quorum(run: Run, token: Token) -> Quorum:
    step = run.step_of(token)
    return step.quorum_policy if isinstance(step, HumanStep) else Quorum()


def release(run: Run, command: c.Release) -> None:
    token = _task_token(run, command.key)
    task = token.task
    if task is None or not task.claimed:
        raise TransitionNotAllowed(f"Nobody has claimed the task {command.key}.", status="open", key=command.key)
    if task.holder != command.by.id and not command.forced and not command.by.is_system:
        raise TaskClaimed(
            f"{task.holder_name} holds the task {command.key}; only the holder may release it.",
            status=task.status,
            holder=task.holder_name,
        )
    run.emit(EventName.HUMAN_TASK_RELEASED, token, previous={"id": task.holder, "name": task.holder_name})


def reassign(run: Run, command: c.Reassign) -> None:
    """Hand the task on. Where several people answer, only the actor's own answer changes hands."""
    token = _task_token(run, command.key)
    task, slot = token.task, _quorum(run, token).kind != "any"
    if task is None or (command.user is None) == (command.group is None):
        raise TransitionNotAllowed("A task is reassigned to one user or to one group.", status="open", key=command.key)
    if slot and command.user is None:
        raise TransitionNotAllowed(
            f"The task {command.key} is put to several people; your answer can be handed to a user, not to a group.",
            status=task.status,
            key=command.key,
        )
    person = command.user or command.group
    to = {"id": person.id, "name": person.name, "kind": "user" if command.user else "group"} if person else {}
    previous = {"id": command.by.id, "name": command.by.name} if slot else _holder(task.holder, task.holder_name)
    electorate = task.electorate if slot else max(1, task.electorate)
    run.resolve_incidents(token, "reassigned")
    run.emit(
        EventName.HUMAN_TASK_REASSIGNED,
        token,
        previous=previous,
        to=to,
        reason=command.reason,
        slot=slot,
        electorate=electorate,
    )
    if command.user is not None and not slot:
        run.emit(EventName.HUMAN_TASK_ASSIGNED, run.token(token.key), assignee={"id": to["id"], "name": to["name"]})


def _holder(key: str, name: str) -> dict[str, str]:
    return {"id": key, "name": name}
