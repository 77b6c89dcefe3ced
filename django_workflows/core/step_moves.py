"""What may be reported of, and done to, one step execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django_workflows.exceptions import ExpressionError, InvalidValue, StaleAttempt, TransitionNotAllowed
from django_workflows.states import InstanceStatus, StepStatus

from . import commands as c
from .events import EventName
from .instance_moves import check_live, late, time_is_up
from .run import Run
from .snapshot import Token
from .steps import HumanStep, JoinStep
from .steps.machine import AT_MOST_ONCE


def _current(run: Run, command: Any, statuses: tuple[str, ...]) -> Token:
    """The token this worker reports on, if its attempt is still the current one (the fence)."""
    token = run.snapshot.tokens.get(command.key)
    if token is None or token.attempt != command.attempt or token.status not in statuses:
        state = f"attempt {token.attempt} is {token.status}" if token else "it is closed"
        raise StaleAttempt(
            f"Attempt {command.attempt} of {command.key} is not the current one: {state}.",
            status=token.status if token else "closed",
            key=command.key,
            attempt=command.attempt,
        )
    return token


def start_step(run: Run, command: c.StartStep) -> None:
    check_live(run, "start a step")
    token = _current(run, command, (StepStatus.SCHEDULED,))
    run.emit_started(token, worker=command.worker)


_AT_WORK: Final = (StepStatus.SCHEDULED, StepStatus.RUNNING)


def _report_all(run: Run, token: Token, reports: Sequence[Mapping[str, Any]]) -> None:
    for report in reports:
        payload = dict(report)
        run.emit(EventName(payload.pop("event")), token, **payload)


def report_step(run: Run, command: c.ReportStep) -> None:
    token = _current(run, command, _AT_WORK)
    if not command.reports:
        raise TransitionNotAllowed("There is nothing to report.", status=token.status, key=token.key)
    _report_all(run, token, command.reports)


def complete_step(run: Run, command: c.CompleteStep) -> None:
    token = _current(run, command, _AT_WORK)
    step = run.step_of(token)
    if token.status == StepStatus.SCHEDULED:
        run.emit_started(token)
        token = run.token(token.key)
    _report_all(run, token, command.reports)
    outcome = command.outcome
    if outcome and outcome not in step.outcomes_offered():
        run.raise_incident(
            token,
            kind="unknown_outcome",
            message=f"{step.name!r} ended as {outcome!r}, which it does not offer.",
            suggested_action="Correct the function and retry, or skip the step with an outcome.",
        )
        return
    outcome = outcome or "succeeded"
    run.complete(
        token,
        outcome=outcome,
        result={"outcome": outcome, "output": command.output},
        changes=command.changes,
        removed=command.removed,
        arguments=command.input,
    )


def fail_step(run: Run, command: c.FailStep) -> None:
    token = _current(run, command, _AT_WORK)
    if token.status == StepStatus.SCHEDULED:
        run.emit_started(token)
    _report_all(run, token, command.reports)
    if command.timed_out_after is not None:
        run.emit(EventName.STEP_TIMED_OUT, token, limit=command.timed_out_after)
    give_up = command.retry_in is None or bool(run.snapshot.canceling)
    edge = run.definition.exit_for(token.step, "failed")
    leaves = give_up and edge is not None and edge.outcome == "failed"
    run.emit(
        EventName.STEP_FAILED,
        token,
        error=command.error,
        error_type=command.error_type,
        retryable=command.retryable,
        diagnostics={"traceback": command.traceback},
        duration=run.seconds_since(token.since),
        outcome="failed",
        leaves=leaves,
    )
    if leaves and edge is not None:
        run.go(edge.target, token.scope, token.branch)
    elif give_up:
        if command.timed_out_after is not None and _is_once_only(run, token):
            _in_doubt(run, token, f"{token.step!r} was stopped after {command.timed_out_after:g} s")
        else:
            _step_incident(run, token, command)
    elif command.retry_in is not None:
        resume_at = run.now + command.retry_in
        run.emit(
            EventName.STEP_RETRYING,
            token,
            attempt=token.attempt + 1,
            resume_at=resume_at.isoformat(),
            reason=command.error,
        )
        run.arm(run.token(token.key), "retry", resume_at)


def _step_incident(run: Run, token: Token, command: c.FailStep) -> None:
    run.raise_incident(
        token,
        kind="step_failed",
        message=command.error or command.error_type,
        error_type=command.error_type,
        suggested_action="Retry the step, skip it with a declared output, or fail the instance.",
        diagnostics={"traceback": command.traceback},
    )


def stop_step(run: Run, command: c.StopStep) -> None:
    token = _current(run, command, _AT_WORK)
    if not run.snapshot.canceling:
        raise TransitionNotAllowed(f"Nobody asked {token.key} to stop.", status=token.status, key=token.key)
    _report_all(run, token, command.reports)
    run.close(token, "it stopped because the workflow is being canceled")


def interrupt_step(run: Run, command: c.InterruptStep) -> None:
    token = _current(run, command, (StepStatus.RUNNING,))
    count = token.interruptions + 1
    run.emit(EventName.WORKFLOW_INTERRUPTED, token, worker=command.worker, interruptions=count)
    if run.snapshot.canceling:
        run.close(token, "the worker was lost while the workflow was being canceled")
        return
    if _is_once_only(run, token):
        _in_doubt(run, token, f"{token.step!r} lost its worker after the call was announced")
        return
    if command.give_up:
        run.raise_incident(
            token,
            kind="worker_lost",
            message=f"{token.step!r} lost its worker {count} times.",
            suggested_action="Find out what kills the worker before retrying the step.",
        )
        return
    reason = "the worker was lost"
    run.emit(EventName.STEP_RETRYING, token, attempt=token.attempt + 1, resume_at=None, reason=reason)
    run.attempt(run.step_of(token), run.token(token.key))


def _is_once_only(run: Run, token: Token) -> bool:
    return getattr(run.step_of(token), "mode", "") == AT_MOST_ONCE


def _in_doubt(run: Run, token: Token, what: str) -> None:
    """Nobody knows whether the call was made; only a person may decide to make it again."""
    run.raise_incident(
        token,
        kind="in_doubt",
        message=f"{what}; it may have happened or not.",
        suggested_action="Find out whether it has happened: if so, skip the step with its output; if not, retry it.",
    )


def raise_incident(run: Run, command: c.RaiseIncident) -> None:
    token = run.token(command.key)
    if command.kind in token.incidents:
        raise TransitionNotAllowed(
            f"The incident {command.kind} of {command.key} is open already.", status=token.status, key=token.key
        )
    run.raise_incident(
        token,
        kind=command.kind,
        message=command.message,
        error_type=command.error_type,
        suggested_action=command.suggested_action,
        diagnostics=command.diagnostics,
    )


def dismiss_incident(run: Run, command: c.DismissIncident) -> None:
    token = run.token(command.key)
    if command.kind not in token.incidents or token.status == StepStatus.FAILED:
        raise TransitionNotAllowed(
            f"The incident {command.kind} of {command.key} is not one that can be dismissed: "
            "a step that is stopped is retried or skipped, or the instance failed.",
            status=token.status,
            key=token.key,
        )
    run.emit(EventName.INCIDENT_RESOLVED, token, kind=command.kind, resolution=f"dismissed: {command.reason}"[:100])


def retry_step(run: Run, command: c.RetryStep) -> None:
    check_live(run, "retry a step")
    token = run.token(command.key)
    if token.status != StepStatus.FAILED:
        raise TransitionNotAllowed(
            f"{command.key} is {token.status}; only a failed step can be retried.",
            status=token.status,
            key=token.key,
        )
    run.resolve_incidents(token, "retried")
    extra = {"changes": dict(command.changes)} if command.changes else {}
    run.emit(
        EventName.STEP_RETRYING,
        token,
        attempt=token.attempt + 1,
        resume_at=None,
        reason="retried by hand",
        **extra,
    )
    step, token = run.step_of(token), run.token(token.key)
    if isinstance(step, JoinStep):
        step.settle(run, token)
    else:
        run.attempt(step, token)


def skip_step(run: Run, command: c.SkipStep) -> None:
    check_live(run, "skip a step")
    token = run.token(command.key)
    if token.status == StepStatus.RUNNING:
        raise TransitionNotAllowed(
            f"{command.key} is running; cancel the instance or wait.", status=token.status, key=token.key
        )
    step = run.step_of(token)
    if isinstance(step, JoinStep):
        step.go_on(run, token)
        return
    _check_skip_outcome(run, token, command.outcome)
    run.close_timers(token, "skipped")
    if token.task is not None:
        run.emit(EventName.HUMAN_TASK_CANCELED, token, reason=command.reason)
    run.resolve_incidents(token, "skipped")
    run.skip(token, command.reason, {"outcome": command.outcome or "skipped", "output": command.output})


def _check_skip_outcome(run: Run, token: Token, outcome: str) -> None:
    step = run.step_of(token)
    offered = run.definition.next_steps(token.step) if step.chooses else step.outcomes_offered()
    if step.type == "fork":
        raise TransitionNotAllowed(
            f"{token.key} is a fork; its branches can be skipped, not itself.",
            status=token.status,
            key=token.key,
        )
    if outcome and outcome not in offered:
        raise TransitionNotAllowed(
            f"{step.name!r} offers no outcome {outcome!r}; allowed: {', '.join(offered)}.",
            status=token.status,
            key=token.key,
        )


def fire_timer(run: Run, command: c.FireTimer) -> None:
    if not command.key and command.timer in run.snapshot.timers:
        check_not_paused(run, command)
        time_is_up(run, command)
        return
    token = run.snapshot.tokens.get(command.key)
    if token is None or command.timer not in token.timers:
        raise _timer_not_running(run, command)
    check_not_paused(run, command)
    due_at = command.due_at.isoformat()
    run.emit(EventName.TIMER_FIRED, token, timer=command.timer, due_at=due_at, late=late(run, command))
    run.fired_due_at = due_at
    run.step_of(token).timer_fired(run, run.token(token.key), command.timer)


def check_not_paused(run: Run, command: c.FireTimer) -> None:
    if run.snapshot.status == InstanceStatus.PAUSED:
        raise _timer_not_running(run, command)


def _timer_not_running(run: Run, command: c.FireTimer) -> TransitionNotAllowed:
    of = f"of {command.key}" if command.key else "of the instance"
    return TransitionNotAllowed(
        f"The timer {command.timer} {of} is not running.", status=run.snapshot.status, key=command.key
    )


def answer_assignment(run: Run, command: c.AnswerAssignment) -> None:
    token = run.token(command.key)
    step = run.step_of(token)
    if isinstance(step, HumanStep):
        try:
            step.assigned(run, token, command)
        except (ExpressionError, InvalidValue) as error:
            run.broken(token, error)


def answer_function(run: Run, command: c.AnswerFunction) -> None:
    token = run.token(command.key)
    step = run.step_of(token)
    if command.error_type:
        run.raise_incident(
            token,
            kind=f"{command.purpose}_failed",
            message=command.error,
            error_type=command.error_type,
            suggested_action="Correct the function and retry the step, or skip it.",
        )
    elif command.purpose == "guard" and not command.value:
        run.skip(token, f"the guard {step.guard} refused")
    elif command.purpose == "guard":
        run.attempt(step, token)
    else:
        try:
            step.answered(run, token, command)
        except InvalidValue as error:
            run.broken(token, error)
