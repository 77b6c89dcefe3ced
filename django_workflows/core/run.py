"""One call of ``decide`` while it is under way: what the step types and the moves work with.

Consequences run to a fixed point: a step that ends leads into the next one, until every way
waits for somebody, something or a moment. Loops are bounded by ``max_visits``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django_workflows.exceptions import ExpressionError, InvalidValue, TransitionNotAllowed, WorkflowError
from django_workflows.states import INSTANCE_ENDED, InstanceStatus, StepStatus

from . import commands as c
from . import expressions, templating
from .definition import REJECTED, Definition, Edge, Step
from .effects import CallFunction, Effect, Question
from .events import Event, EventName
from .snapshot import Snapshot, Token, evolve, scope_of, scopes_within
from .steps import JoinStep

NOTHING: Final[Mapping[str, Any]] = {"outcome": "skipped", "output": None}


class Run:
    """One call of ``decide`` while it is under way; what the step types work with."""

    def __init__(self, definition: Definition, snapshot: Snapshot, *, now: datetime, by: c.Actor) -> None:
        self.definition = definition
        self.snapshot = snapshot
        self.now = now
        self.by = by
        self.events: list[Event] = []
        self.effects: list[Effect] = []
        self.questions: list[Question] = []
        self.fired_due_at = ""
        self._waiting: deque[tuple[str, str, str]] = deque()
        self._scope: Mapping[str, Any] | None = None

    # reading

    def token(self, key: str) -> Token:
        """The open step execution; ``TransitionNotAllowed`` if it is not open (any more)."""
        token = self.snapshot.tokens.get(key)
        if token is None:
            raise TransitionNotAllowed(
                f"The step execution {key} is not open; the instance is {self.snapshot.status}.",
                status=self.snapshot.status,
                key=key,
            )
        return token

    def step_of(self, token: Token) -> Step:
        return self.definition.step(token.step)

    def seconds_since(self, moment: datetime) -> float:
        return max(0.0, (self.now - moment).total_seconds())

    @property
    def scope(self) -> Mapping[str, Any]:
        """The names that expressions see."""
        if self._scope is None:
            self._scope = scope_of(self.snapshot, self.now)
        return self._scope

    def is_true(self, text: str) -> bool:
        return expressions.is_true(text, self.scope)

    def value(self, text: str) -> Any:
        return expressions.evaluate(text, self.scope)

    def text(self, template: str) -> str:
        return templating.render(template, self.scope) if "{{" in template else template

    # writing

    def emit(self, name: EventName, token: Token | None = None, **payload: Any) -> None:
        """Record an event and let it change the present. ``outcome``, ``duration`` and ``attempt`` are fields."""
        outcome, duration = payload.pop("outcome", ""), payload.pop("duration", None)
        attempt = payload.pop("attempt", token.attempt if token else 0)
        event = Event(
            name=name,
            at=self.now,
            sequence=self.snapshot.sequence + 1,
            by=self.by,
            step=token.step if token else "",
            occurrence=token.occurrence if token else 0,
            index=token.index if token else 0,
            attempt=attempt,
            outcome=outcome,
            duration=duration,
            payload=payload,
        )
        self.events.append(event)
        self.snapshot = evolve(self.snapshot, event)
        self._scope = None

    def ask(self, question: Question) -> None:
        self.questions.append(question)

    def do(self, effect: Effect) -> None:
        self.effects.append(effect)

    def emit_opened(self, name: EventName, token: Token, status: StepStatus, **payload: Any) -> None:
        self.emit(
            name,
            token,
            type=self.step_of(token).type,
            status=status,
            scope=token.scope,
            branch=token.branch,
            **payload,
        )

    def emit_started(self, token: Token, *, waiting: bool = False, worker: str = "") -> None:
        status = StepStatus.WAITING if waiting else StepStatus.RUNNING
        self.emit_opened(EventName.STEP_STARTED, token, status, worker=worker)

    def arm(self, token: Token, timer: str, due_at: datetime) -> None:
        self.emit(EventName.TIMER_STARTED, token, timer=timer, due_at=due_at.isoformat())

    def close_timers(self, token: Token, reason: str) -> None:
        for timer in self.token(token.key).timers:
            self.emit(EventName.TIMER_CANCELED, token, timer=timer, reason=reason)

    def raise_incident(
        self,
        token: Token,
        *,
        kind: str,
        message: str,
        suggested_action: str,
        blocking: bool = True,
        error_type: str = "",
        diagnostics: Mapping[str, Any] | None = None,
    ) -> None:
        """Something a person must look at; a blocking one stops this way until it is resolved."""
        self.emit(
            EventName.INCIDENT_RAISED,
            token,
            kind=kind,
            message=message,
            error_type=error_type,
            blocking=blocking,
            suggested_action=suggested_action,
            diagnostics=dict(diagnostics or {}),
        )

    def resolve_incidents(self, token: Token, resolution: str) -> None:
        for kind in self.token(token.key).incidents:
            self.emit(EventName.INCIDENT_RESOLVED, token, kind=kind, resolution=resolution)

    # moving

    def go(self, target: str, scope: str, branch: str) -> None:
        """Enter ``target`` when the present step is through."""
        self._waiting.append((target, scope, branch))

    def settle(self) -> None:
        """Follow every consequence, then see whether the instance is through."""
        while self._waiting and self.snapshot.status not in INSTANCE_ENDED and not self.snapshot.canceling:
            self._enter(*self._waiting.popleft())
        if self.snapshot.canceling:
            self._cancel_when_idle()
            return
        live = self.snapshot.status in (InstanceStatus.RUNNING, InstanceStatus.WAITING)
        if live and self.definition.durable and not self.snapshot.tokens:
            self.finish()

    def _cancel_when_idle(self) -> None:
        """Close everything but the steps at work; the last of these to end cancels the instance."""
        self._waiting.clear()
        for token in tuple(self.snapshot.tokens.values()):
            if token.status != StepStatus.RUNNING:
                self.close(token, "the workflow was canceled")
        if not self.snapshot.tokens:
            canceling = self.snapshot.canceling
            payload = {"reason": canceling["reason"], "requested_by": canceling["by"]}
            self.end(EventName.WORKFLOW_CANCELED, outcome="canceled", **payload)

    def end(self, name: EventName, *, outcome: str, **payload: Any) -> None:
        """The last event of the instance, behind the end of everything that belongs to it."""
        self.close_all("the workflow ended")
        for timer in self.snapshot.timers:
            self.emit(EventName.TIMER_CANCELED, timer=timer, reason="the workflow ended")
        duration = self.seconds_since(self.snapshot.started_at or self.now)
        self.emit(name, outcome=outcome, duration=duration, **payload)

    def _enter(self, name: str, scope: str, branch: str) -> None:
        step = self.definition.step(name)
        if isinstance(step, JoinStep):
            open_join = self._open_join(name, scope)
            if open_join is not None:
                step.arrive(self, open_join)
                return
        occurrence = self.snapshot.visits.get(name, 0) + 1
        token = Token(
            step=name,
            occurrence=occurrence,
            index=self.snapshot.entered + 1,
            status=StepStatus.PENDING,
            since=self.now,
            scope=scope,
            branch=branch,
        )
        if self.snapshot.status == InstanceStatus.PAUSED:
            self.emit_opened(EventName.STEP_SCHEDULED, token, StepStatus.PENDING)
            return
        if occurrence > self.definition.max_visits:
            self.emit_started(token)
            self.raise_incident(
                token,
                kind="loop_bound",
                message=f"{name!r} was entered {occurrence} times; the bound is {self.definition.max_visits}.",
                suggested_action="Look for the loop that never ends; retry the step to allow one more round.",
            )
            return
        self.begin(step, token)

    def _open_join(self, name: str, scope: str) -> Token | None:
        for token in self.snapshot.tokens.values():
            if token.step == name and token.scope == scope:
                return token
        return None

    def begin(self, step: Step, token: Token) -> None:
        """Ask whether the step is to be done, and if so do it. A broken expression is an incident."""
        try:
            reason = self._skip_reason(step)
        except (ExpressionError, InvalidValue) as error:
            self.broken(token, error)
            return
        if reason:
            self.skip(token, reason)
        elif step.guard:
            self.emit_opened(EventName.STEP_SCHEDULED, token, StepStatus.PENDING)
            self.ask(CallFunction(key=token.key, purpose="guard", function=step.guard))
        else:
            self.attempt(step, token)

    def attempt(self, step: Step, token: Token) -> None:
        try:
            step.enter(self, token)
        except (ExpressionError, InvalidValue) as error:
            self.broken(token, error)

    def broken(self, token: Token, error: WorkflowError) -> None:
        """An expression, template or value failed while the step was entered."""
        if token.key not in self.snapshot.tokens:
            self.emit_started(token)
        self.raise_incident(
            token,
            kind="broken_expression",
            message=error.message,
            error_type=type(error).__name__,
            suggested_action="Correct the data and retry the step, or skip it with a declared output.",
            diagnostics={"expression": str(error.facts.get("text", ""))},
        )

    def _skip_reason(self, step: Step) -> str:
        if step.condition and not self.is_true(step.condition):
            return f"the condition is false: {step.condition}"
        if step.skip_if and self.is_true(step.skip_if):
            return f"skip_if is true: {step.skip_if}"
        return ""

    def skip(self, token: Token, reason: str, result: Mapping[str, Any] = NOTHING) -> None:
        """Pass the step by; the flow goes on as if it had ended with the result's outcome."""
        edges, dead_end = self._exits(token, result["outcome"])
        offered = self.step_of(token).outcomes_offered()
        if not edges and result["outcome"] == "skipped" and offered:
            edges, dead_end = self._exits(token, offered[0])
        self.emit(
            EventName.STEP_SKIPPED,
            token,
            type=self.step_of(token).type,
            reason=reason,
            result=dict(result),
            outcome=result["outcome"],
            **({"dead_end": dead_end} if dead_end else {}),
        )
        self._follow(token, edges, token.scope, token.branch, dead_end)

    def _exits(self, token: Token, outcome: str) -> tuple[tuple[Edge, ...], str]:
        """The edge an ordinary step leaves by, and the scope whose branch dies if there is none."""
        step = self.step_of(token)
        if step.chooses:
            edges = tuple(edge for edge in self.definition.exits[token.step] if edge.target == outcome)
            edges = edges or self.definition.exits[token.step][-1:]
        else:
            edge = self.definition.exit_for(token.step, outcome)
            edges = (edge,) if edge else ()
        return edges, "" if edges else token.scope

    def complete(
        self,
        token: Token,
        *,
        outcome: str,
        result: Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
        removed: Sequence[str] = (),
        decided: bool = False,
        ends: bool = False,
        follow: tuple[Edge, ...] | None = None,
        opens: int = 0,
        closes: str = "",
        arguments: Any = None,
    ) -> None:
        """The step is through: record its result and leave by the edge of its outcome."""
        if self._in_conflict(token, changes or {}, removed):
            return
        scope, branch = token.scope, token.branch
        if closes:
            closing = self.snapshot.scopes[closes]
            scope, branch = closing.parent, closing.branch
        edges, dead_end = (follow, "") if follow is not None else self._exits(token, outcome)
        if not edges:
            dead_end = scope
        extra: dict[str, Any] = {
            "removed": list(removed),
            "decided": decided,
            "ends": ends,
            "opens": opens,
            "closes": closes,
            "dead_end": dead_end,
            "input": arguments,
        }
        extra = {name: value for name, value in extra.items() if value}
        if opens:
            extra |= {"scope": scope, "branch": branch}
        if token.key in self.snapshot.tokens:
            self.resolve_incidents(token, "completed")
        self.emit(
            EventName.STEP_COMPLETED,
            token,
            outcome=outcome,
            duration=self.seconds_since(token.since),
            result=dict(result),
            changes=dict(changes or {}),
            **extra,
        )
        if not edges and outcome == REJECTED and decided:
            self.finish(outcome)
            return
        self._follow(token, edges, token.key if opens else scope, "" if opens else branch, dead_end)

    def _follow(self, token: Token, edges: tuple[Edge, ...], scope: str, branch: str, dead_end: str) -> None:
        for number, edge in enumerate(edges):
            self.go(edge.target, scope, branch or (str(number) if scope == token.key else branch))
        if dead_end and dead_end in self.snapshot.scopes:
            self._wake_join(dead_end)

    def _wake_join(self, scope: str) -> None:
        """A branch died: perhaps the join of its scope now has all it can get."""
        for token in tuple(self.snapshot.tokens.values()):
            step = self.step_of(token)
            if token.scope == scope and isinstance(step, JoinStep):
                step.settle(self, token)

    def _in_conflict(self, token: Token, changes: Mapping[str, Any], removed: Sequence[str]) -> bool:
        """Two branches of one fork wrote different values under one key."""
        scope, branch = token.scope, token.branch
        while scope:
            inside = self.snapshot.scopes[scope]
            for key in (*changes, *removed):
                writer = inside.writes.get(key, branch)
                same = key in changes and self.snapshot.data.get(key) == changes[key]
                if writer != branch and not same:
                    self.raise_incident(
                        token,
                        kind="data_conflict",
                        message=f"Two parallel branches wrote different values to data.{key}.",
                        suggested_action="Retry the step after correcting the data, or skip it.",
                    )
                    return True
            scope, branch = inside.parent, inside.branch
        return False

    def close_scope(self, scope: str, *, but: str) -> None:
        """Cancel what is still open inside a fork, inner forks included."""
        inner = scopes_within(self.snapshot.scopes, scope)
        self._waiting = deque(entry for entry in self._waiting if entry[1] not in inner)
        for key, token in tuple(self.snapshot.tokens.items()):
            if token.scope in inner and key != but:
                self.close(token, "the join went on without it")

    def close(self, token: Token, reason: str) -> None:
        """Cancel one open step execution with all that belongs to it."""
        self.close_timers(token, reason)
        if token.task is not None:
            self.emit(EventName.HUMAN_TASK_CANCELED, token, reason=reason)
        self.resolve_incidents(token, "canceled")
        self.emit(EventName.STEP_CANCELED, token, reason=reason, duration=self.seconds_since(token.since))

    def close_all(self, reason: str) -> None:
        for token in tuple(self.snapshot.tokens.values()):
            self.close(token, reason)
        self._waiting.clear()

    def finish(self, outcome: str = "") -> None:
        """The instance is through: with this outcome, that of its end, or that of its last decision."""
        self.close_all("the workflow ended")
        outcome = outcome or self.snapshot.end_outcome or self.snapshot.last_outcome or "completed"
        try:
            output = {name: self.value(text) for name, text in self.definition.outputs.items()}
        except ExpressionError as error:
            self.end(EventName.WORKFLOW_FAILED, outcome="failed", error=error.message, error_type=type(error).__name__)
            return
        self.end(EventName.WORKFLOW_COMPLETED, outcome=outcome, output=output)
