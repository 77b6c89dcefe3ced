"""What may be done to an instance as a whole."""

from __future__ import annotations

from django_workflows.exceptions import TransitionNotAllowed
from django_workflows.states import INSTANCE_MOVES, InstanceStatus, StepStatus, allowed_verbs

from . import commands as c
from .effects import EnqueueStep
from .events import EventName
from .run import Run
from .snapshot import Token


def check_move(run: Run, verb: str) -> None:
    status = InstanceStatus(run.snapshot.status)
    if (status, verb) not in INSTANCE_MOVES:
        allowed = ", ".join(allowed_verbs(INSTANCE_MOVES, status)) or "nothing, it has ended"
        raise TransitionNotAllowed(
            f"A {status} instance cannot {verb}; allowed now: {allowed}.", status=status, verb=verb
        )


def start(run: Run, command: c.Start) -> None:
    check_move(run, "start")
    about = {**command.about, "started_at": run.now.isoformat()}
    run.emit(EventName.WORKFLOW_STARTED, about=about, data=dict(command.data))
    run.go(run.definition.initial, "", "")


def cancel(run: Run, command: c.Cancel) -> None:
    check_move(run, "cancel")
    run.emit(EventName.CANCELLATION_REQUESTED, reason=command.reason)
    run.close_all("the workflow was canceled")
    duration = run.seconds_since(run.snapshot.started_at or run.now)
    run.emit(EventName.WORKFLOW_CANCELED, reason=command.reason, outcome="canceled", duration=duration)


def fail(run: Run, command: c.FailInstance) -> None:
    check_move(run, "fail")
    run.close_all("the workflow failed")
    duration = run.seconds_since(run.snapshot.started_at or run.now)
    run.emit(
        EventName.WORKFLOW_FAILED,
        error=command.error,
        error_type=command.error_type,
        outcome="failed",
        duration=duration,
    )


def pause(run: Run, command: c.Pause) -> None:
    check_move(run, "pause")
    run.emit(EventName.WORKFLOW_PAUSED, reason=command.reason, steps=sorted(run.snapshot.tokens))


def resume(run: Run, command: c.Resume) -> None:
    check_move(run, "resume")
    run.emit(EventName.WORKFLOW_RESUMED, reason=command.reason, steps=sorted(run.snapshot.tokens))
    for token in tuple(run.snapshot.tokens.values()):
        if token.status == StepStatus.PENDING:
            run.begin(run.step_of(token), token)
        elif token.status == StepStatus.SCHEDULED:
            run.do(EnqueueStep(key=token.key, attempt=token.attempt))


def comment(run: Run, command: c.Comment) -> None:
    if not command.key:
        run.emit(EventName.WORKFLOW_COMMENTED, text=command.text)
        return
    step, _, occurrence = command.key.rpartition("#")
    token = run.snapshot.tokens.get(command.key) or Token(
        step=step, occurrence=int(occurrence), index=0, status=StepStatus.SUCCEEDED, since=run.now
    )
    run.emit(EventName.HUMAN_TASK_COMMENTED, token, text=command.text)


def check_live(run: Run, verb: str) -> None:
    """Only an instance that is neither paused nor ended takes up anything new."""
    if run.snapshot.status not in (InstanceStatus.RUNNING, InstanceStatus.WAITING):
        raise TransitionNotAllowed(
            f"Cannot {verb}: the instance is {run.snapshot.status}.", status=run.snapshot.status, verb=verb
        )
