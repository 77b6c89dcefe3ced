"""``decide``: the present and a command give events and effects. It performs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from . import commands as c
from . import instance_moves, step_moves, task_moves
from .definition import Definition
from .effects import Effect, Question
from .events import Event
from .run import Run
from .snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What a command leads to; ``snapshot`` is the present after the events."""

    snapshot: Snapshot
    events: tuple[Event, ...]
    effects: tuple[Effect, ...]
    questions: tuple[Question, ...]


def decide(definition: Definition, snapshot: Snapshot, command: c.Command, *, now: datetime) -> Transition:
    """Judge one command. Raises a ``WorkflowError`` if it is refused; then nothing has happened."""
    run = Run(definition, snapshot, now=now, by=command.by)
    _HANDLERS[type(command)](run, command)
    run.settle()
    return Transition(
        snapshot=run.snapshot,
        events=tuple(run.events),
        effects=tuple(run.effects),
        questions=tuple(run.questions),
    )


_HANDLERS: Final[Mapping[type[c.Command], Callable[[Run, Any], None]]] = {
    c.Start: instance_moves.start,
    c.Cancel: instance_moves.cancel,
    c.FailInstance: instance_moves.fail,
    c.Pause: instance_moves.pause,
    c.Resume: instance_moves.resume,
    c.Comment: instance_moves.comment,
    c.Settle: instance_moves.settle,
    c.SetHold: instance_moves.set_hold,
    c.LiftHold: instance_moves.lift_hold,
    c.InterruptInstance: instance_moves.interrupt,
    c.Conclude: instance_moves.conclude,
    c.StartStep: step_moves.start_step,
    c.ReportStep: step_moves.report_step,
    c.CompleteStep: step_moves.complete_step,
    c.FailStep: step_moves.fail_step,
    c.StopStep: step_moves.stop_step,
    c.InterruptStep: step_moves.interrupt_step,
    c.RetryStep: step_moves.retry_step,
    c.SkipStep: step_moves.skip_step,
    c.RaiseIncident: step_moves.raise_incident,
    c.DismissIncident: step_moves.dismiss_incident,
    c.FireTimer: step_moves.fire_timer,
    c.Decide: task_moves.decide,
    c.Claim: task_moves.claim,
    c.Release: task_moves.release,
    c.Reassign: task_moves.reassign,
    c.AnswerAssignment: step_moves.answer_assignment,
    c.AnswerFunction: step_moves.answer_function,
}
