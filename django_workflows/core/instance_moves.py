"""What may be done to an instance as a whole."""

from __future__ import annotations

from typing import Final

from django_workflows.exceptions import StaleAttempt, TransitionNotAllowed
from django_workflows.states import INSTANCE_MOVES, InstanceStatus, StepStatus, allowed_verbs

from . import commands as c
from .durations import parse_duration
from .effects import EnqueueInstance, EnqueueStep
from .events import EventName
from .run import Run
from .snapshot import Token

#: The timer of an instance that may take only so long.
MAX_DURATION: Final = "max_duration"


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
    if run.definition.max_duration:
        due_at = run.now + parse_duration(run.definition.max_duration)
        run.emit(EventName.TIMER_STARTED, timer=MAX_DURATION, due_at=due_at.isoformat())
    if run.definition.durable:
        run.go(run.definition.initial, "", "")
    else:
        run.do(EnqueueInstance(attempt=1))


def cancel(run: Run, command: c.Cancel) -> None:
    """Ask for the end; it comes at once unless a step is at work, which may end first."""
    check_move(run, "cancel")
    if run.snapshot.canceling and not command.force:
        raise TransitionNotAllowed(
            "The cancellation was requested already; it waits for a step at work. It can be forced.",
            status=run.snapshot.status,
            verb="cancel",
        )
    if not run.snapshot.canceling:
        run.emit(EventName.CANCELLATION_REQUESTED, reason=command.reason)
    if command.force:
        run.close_all("the workflow was canceled")


def fail(run: Run, command: c.FailInstance) -> None:
    check_move(run, "fail")
    run.close_all("the workflow failed")
    run.end(EventName.WORKFLOW_FAILED, outcome="failed", error=command.error, error_type=command.error_type)


def time_is_up(run: Run, command: c.FireTimer) -> None:
    """The only timer of an instance as a whole is that of its greatest duration."""
    run.emit(EventName.TIMER_FIRED, timer=command.timer, due_at=command.due_at.isoformat(), late=late(run, command))
    run.close_all("the workflow took too long")
    run.end(
        EventName.WORKFLOW_FAILED,
        outcome="failed",
        error=f"It took longer than the {run.definition.max_duration} that the definition allows.",
        error_type="MaxDurationExceeded",
    )


def late(run: Run, command: c.FireTimer) -> float:
    """Seconds from when the timer was due until now."""
    return max(0.0, (run.now - command.due_at).total_seconds())


def settle(run: Run, command: c.Settle) -> None:
    check_live(run, "settle")
    if run.snapshot.tokens or not run.definition.durable:
        raise TransitionNotAllowed(
            "There is nothing to settle: the instance waits for its open steps.",
            status=run.snapshot.status,
            verb="settle",
        )


def set_hold(run: Run, command: c.SetHold) -> None:
    run.emit(EventName.LEGAL_HOLD_SET, reason=command.reason)


def lift_hold(run: Run, command: c.LiftHold) -> None:
    run.emit(EventName.LEGAL_HOLD_LIFTED, reason=command.reason)


def _check_attempt(run: Run, attempt: int) -> None:
    """The fence of a transient instance: only its current run may report."""
    check_live(run, "go on")
    if attempt != run.snapshot.interruptions + 1 or run.definition.durable:
        raise StaleAttempt(
            f"Run {attempt} of the instance is not the current one, {run.snapshot.interruptions + 1}.",
            status=run.snapshot.status,
            attempt=attempt,
        )


def interrupt(run: Run, command: c.InterruptInstance) -> None:
    """A transient instance keeps no checkpoint: it starts again from its beginning."""
    _check_attempt(run, command.attempt)
    count = run.snapshot.interruptions + 1
    run.emit(EventName.WORKFLOW_INTERRUPTED, worker=command.worker, interruptions=count, attempt=command.attempt)
    if command.give_up:
        error = f"It lost its worker {count} times."
        run.end(EventName.WORKFLOW_FAILED, outcome="failed", error=error, error_type="WorkerLost")
    else:
        run.do(EnqueueInstance(attempt=command.attempt + 1))


def conclude(run: Run, command: c.Conclude) -> None:
    _check_attempt(run, command.attempt)
    kept = {"data": dict(command.data), "steps": dict(command.steps)}
    if command.error_type:
        error = {"error": command.error, "error_type": command.error_type}
        run.end(EventName.WORKFLOW_FAILED, outcome="failed", **error, **kept)
    else:
        run.end(EventName.WORKFLOW_COMPLETED, outcome=command.outcome, output=dict(command.output), **kept)


def pause(run: Run, command: c.Pause) -> None:
    check_move(run, "pause")
    if run.snapshot.canceling or not run.definition.durable:
        why = "it is being canceled" if run.snapshot.canceling else "a transient instance keeps nothing to go on from"
        raise TransitionNotAllowed(f"Cannot pause: {why}.", status=run.snapshot.status, verb="pause")
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
    if run.snapshot.canceling:
        raise TransitionNotAllowed(
            f"Cannot {verb}: the instance is being canceled.", status=run.snapshot.status, verb=verb
        )
