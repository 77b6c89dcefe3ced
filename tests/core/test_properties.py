"""Random drawings: the well-formed always end or wait, the ill-formed are refused with the fault named."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from django_workflows.core import commands as c
from django_workflows.core.codec import from_json, to_json
from django_workflows.core.definition import Definition, Edge, Step
from django_workflows.core.steps import (
    ApprovalStep,
    Assignment,
    DecisionStep,
    EndStep,
    ForkStep,
    HumanStep,
    JoinStep,
    MachineStep,
    TimerStep,
)
from django_workflows.core.validation import validate
from django_workflows.exceptions import TransitionNotAllowed
from django_workflows.states import INSTANCE_ENDED, EventName, StepStatus
from tests.core.stories import ANN, Story

ASSIGN = Assignment(groups=("x",))
CONDITIONS = ("data.n > 1", "data.n < 1", "true", "false", "data.missing == 1", "size(data.s) > 2")


class Drawing:
    """Grows a well-formed drawing: every block has one way in and one way out."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.steps, self.edges = chance, [], []  # type: ignore[var-annotated]

    def add(self, kind: type[Step], **fields: Any) -> str:
        name = f"s{len(self.steps)}"
        self.steps.append(kind(name=name, **fields))
        return name

    def join_up(self, source: str, target: str, **fields: Any) -> None:
        self.edges.append(Edge(source=source, target=target, **fields))

    def block(self, depth: int) -> tuple[str, str]:
        kinds = ["machine", "inline", "human", "approval", "timer"]
        kind = self.chance.choice(kinds + (["chain", "choice", "parallel", "loop"] if depth else []))
        return getattr(self, f"_{kind}")(depth)  # type: ignore[no-any-return]

    def _single(self, kind: type[Step], **fields: Any) -> tuple[str, str]:
        if self.chance.random() < 0.2:
            fields["condition"] = self.chance.choice(CONDITIONS)
        name = self.add(kind, **fields)
        return name, name

    def _machine(self, depth: int) -> tuple[str, str]:
        return self._single(
            MachineStep, function="work", mode=self.chance.choice(["transactional", "at_least_once", "at_most_once"])
        )

    def _inline(self, depth: int) -> tuple[str, str]:
        return self._single(MachineStep, function="work", mode="inline")

    def _human(self, depth: int) -> tuple[str, str]:
        return self._single(HumanStep, assign=ASSIGN, due=self.chance.choice(["", "1d"]))

    def _approval(self, depth: int) -> tuple[str, str]:
        return self._single(ApprovalStep, assign=ASSIGN)

    def _timer(self, depth: int) -> tuple[str, str]:
        return self._single(TimerStep, duration="1h")

    def _chain(self, depth: int) -> tuple[str, str]:
        first, middle = self.block(depth - 1)
        after, last = self.block(depth - 1)
        self.join_up(middle, after)
        return first, last

    def _choice(self, depth: int) -> tuple[str, str]:
        gate, after = self.add(DecisionStep), self.add(MachineStep, function="work", mode="inline")
        for number in range(self.chance.randint(1, 3)):
            first, last = self.block(depth - 1)
            self.join_up(
                gate, first, **({"condition": self.chance.choice(CONDITIONS)} if number else {"otherwise": True})
            )
            self.join_up(last, after)
        return gate, after

    def _parallel(self, depth: int) -> tuple[str, str]:
        branches = self.chance.randint(2, 4)
        wait = self.chance.choice(["all", "any", "count"])
        gate = self.add(ForkStep)
        meet = self.add(JoinStep, wait=wait, count=self.chance.randint(1, branches) if wait == "count" else 0)
        for _ in range(branches):
            first, last = self.block(depth - 1)
            self.join_up(
                gate, first, **({"condition": self.chance.choice(CONDITIONS)} if self.chance.random() < 0.3 else {})
            )
            self.join_up(last, meet)
        return gate, meet

    def _loop(self, depth: int) -> tuple[str, str]:
        first, last = self.block(depth - 1)
        gate, after = self.add(DecisionStep), self.add(MachineStep, function="work", mode="inline")
        self.join_up(last, gate)
        self.join_up(gate, first, condition=self.chance.choice(CONDITIONS))
        self.join_up(gate, after, otherwise=True)
        return first, after


def drawing(seed: int, depth: int = 3) -> Definition:
    sketch = Drawing(random.Random(seed))
    first, last = sketch.block(depth)
    stop = sketch.add(EndStep, outcome="done")
    sketch.join_up(last, stop)
    return Definition(name="random", steps=tuple(sketch.steps), edges=tuple(sketch.edges), initial=first, max_visits=4)


definitions = st.integers(min_value=0, max_value=10**9).map(drawing)


def live_one(story: Story, chance: random.Random) -> None:
    """Something that may happen now, happens."""
    key, token = chance.choice(sorted(story.snapshot.tokens.items()))
    job = next((job for job in story.jobs if job.key == key and job.attempt == token.attempt), None)
    if token.status == StepStatus.SCHEDULED:
        assert job is not None, "a scheduled step without a job would wait for ever"
        story.jobs.remove(job)
        story.send(c.CompleteStep(key=key, attempt=token.attempt, changes={"n": chance.randint(0, 2)}))
    elif token.status == StepStatus.FAILED:
        if chance.random() < 0.5:
            story.send(c.RetryStep(key=key, changes={"n": chance.randint(0, 2), "missing": 1, "s": "abc"}))
        else:
            story.send(c.Cancel(by=ANN))
    elif token.task is not None:
        outcomes = story.definition.step(token.step).outcomes_offered()
        story.send(c.Decide(key=key, outcome=chance.choice(outcomes), by=ANN))
    elif "sleep" in token.timers:
        story.send(c.FireTimer(key=key, timer="sleep", due_at=story.now))


@given(definitions, st.integers(min_value=0, max_value=10**9))
@settings(max_examples=150)
def test_a_well_formed_drawing_always_ends_or_waits_for_something(definition: Definition, seed: int) -> None:
    assert [problem for problem in validate(definition) if problem.severity == "error"] == []
    chance = random.Random(seed)
    story = Story(definition).start(n=chance.randint(0, 2), s="abc")

    for _ in range(300):
        if story.snapshot.status in INSTANCE_ENDED:
            break
        assert story.snapshot.tokens, "alive, but nothing is open"
        movable = [t for t in story.snapshot.tokens.values() if t.status != StepStatus.WAITING or t.task or t.timers]
        assert movable, story.snapshot.tokens
        live_one(story, chance)

    if story.snapshot.status in INSTANCE_ENDED:
        assert (story.snapshot.tokens, story.snapshot.scopes) == ({}, {})


def harm(story: Story, chance: random.Random) -> None:
    """Something goes wrong, or somebody steps in; what is refused changes nothing."""
    before = story.snapshot
    key, token = chance.choice(sorted(before.tokens.items()))
    at_work = {"key": key, "attempt": chance.choice([token.attempt, token.attempt, max(1, token.attempt - 1)])}
    command = chance.choice(
        [
            *[c.StartStep(**at_work, worker="w") for _ in range(4)],
            c.InterruptStep(**at_work, worker="w", give_up=chance.random() < 0.2),
            c.FailStep(**at_work, error="x", error_type="X", retry_in=chance.choice([None, timedelta(minutes=1)])),
            c.FailStep(**at_work, error="x", error_type="StepTimeout", timed_out_after=1.0),
            c.StopStep(**at_work),
            c.ReportStep(**at_work, reports=({"event": EventName.STEP_PROGRESS, "text": "", "fraction": 0.5, "metadata": {}},)),
            c.CompleteStep(**at_work),
            c.RaiseIncident(key=key, kind="stuck", message="x", suggested_action="y"),
            c.SkipStep(key=key, reason="x", by=ANN),
            c.RetryStep(key=key, by=ANN),
            c.FireTimer(key=key, timer=chance.choice(["retry", "sleep", "due"]), due_at=story.now),
            c.FireTimer(key="", timer="max_duration", due_at=story.now),
            c.Resume(by=ANN) if before.status == "paused" or chance.random() < 0.8 else c.Pause(by=ANN),
            c.Settle(),
            *([c.Cancel(by=ANN, force=chance.random() < 0.3)] if chance.random() < 0.2 else []),
        ]
    )  # fmt: skip
    if isinstance(command, c.FireTimer) and command.key == "" and chance.random() < 0.9:
        return
    try:
        story.send(command)
    except TransitionNotAllowed:
        assert story.snapshot == before


@given(definitions, st.integers(min_value=0, max_value=10**9))
@settings(max_examples=200)
def test_whatever_goes_wrong_it_ends_or_waits_for_somebody(definition: Definition, seed: int) -> None:
    chance = random.Random(seed)
    story = Story(replace(definition, max_duration="30d")).start(n=chance.randint(0, 2), s="abc")

    for _ in range(60):
        if story.snapshot.status not in INSTANCE_ENDED:
            harm(story, chance)
    for _ in range(400):
        if story.snapshot.status in INSTANCE_ENDED:
            break
        bring_home(story, chance)

    assert story.snapshot.status in INSTANCE_ENDED
    assert (story.snapshot.tokens, story.snapshot.timers, dict(story.snapshot.canceling)) == ({}, (), {})
    assert [event.name for event in story.events].count(EventName.WORKFLOW_CANCELED) <= 1
    ends = [event for event in story.events if event.name in ENDS]
    assert [event.sequence for event in ends] == [len(story.events)]


ENDS = (EventName.WORKFLOW_COMPLETED, EventName.WORKFLOW_FAILED, EventName.WORKFLOW_CANCELED)


def bring_home(story: Story, chance: random.Random) -> None:
    """From now on everything goes well: what is open is finished."""
    if story.snapshot.status == "paused":
        story.send(c.Resume(by=ANN))
        return
    key, token = chance.choice(sorted(story.snapshot.tokens.items()))
    if token.attempt > 100:  # a fork none of whose conditions can be met
        story.send(c.Cancel(by=ANN, force=True))
    elif token.status in (StepStatus.SCHEDULED, StepStatus.RUNNING):
        story.send(c.CompleteStep(key=key, attempt=token.attempt))
    elif token.status in (StepStatus.FAILED, StepStatus.PENDING):
        with suppress(TransitionNotAllowed):  # a fork is not skipped; its branches are
            story.send(c.SkipStep(key=key, reason="x", by=ANN))
        if key in story.snapshot.tokens:
            story.send(c.RetryStep(key=key, changes={"missing": 1, "n": chance.randint(0, 2)}, by=ANN))
    elif token.task is not None:
        outcomes = story.definition.step(token.step).outcomes_offered()
        story.send(c.Decide(key=key, outcome=chance.choice(outcomes), by=ANN))
    elif token.timers:
        story.send(c.FireTimer(key=key, timer=token.timers[0], due_at=story.now))


@given(definitions)
@settings(max_examples=100)
def test_a_definition_survives_json(definition: Definition) -> None:
    assert from_json(to_json(definition)) == definition


FAULTS = ("dangling", "orphan", "outcome", "condition", "initial", "duplicate", "expression")


@given(definitions, st.sampled_from(FAULTS), st.integers(min_value=0, max_value=10**9))
@settings(max_examples=150)
def test_an_ill_formed_drawing_is_refused_and_every_fault_is_named(
    definition: Definition, fault: str, seed: int
) -> None:
    chance = random.Random(seed)
    first, second = chance.choice(FAULTS), fault

    broken = _broken(_broken(definition, first, chance), second, chance)

    found = {problem.code for problem in validate(broken) if problem.severity == "error"}
    expected = {_CODES[first], _CODES[second]}
    if "initial" in (first, second):
        expected.discard("unreachable_step")  # from a start that is not there nothing can be reached
    assert expected <= found


_CODES = {
    "dangling": "unknown_step",
    "orphan": "unreachable_step",
    "outcome": "unknown_outcome",
    "condition": "condition_on_step",
    "initial": "unknown_step",
    "duplicate": "duplicate_step",
    "expression": "invalid_expression",
}


def _broken(definition: Definition, fault: str, chance: random.Random) -> Definition:
    extra = f"x{len(definition.steps)}"
    lone = MachineStep(name=extra, function="work")
    if fault == "dangling":
        edge = Edge(source=definition.steps[-1].name, target="nowhere", outcome="x")
        return replace(definition, edges=(*definition.edges, edge))
    if fault == "orphan":
        return replace(definition, steps=(*definition.steps, lone))
    if fault in ("outcome", "condition"):
        fields = {"outcome": "unheard_of"} if fault == "outcome" else {"condition": "true"}
        edge = Edge(source=extra, target=definition.steps[-1].name, **fields)  # type: ignore[arg-type]
        return replace(definition, steps=(*definition.steps, lone), edges=(*definition.edges, edge))
    if fault == "initial":
        return replace(definition, initial="nowhere")
    if fault == "duplicate":
        return replace(definition, steps=(*definition.steps, chance.choice(definition.steps)))
    sick = MachineStep(name=extra, function="work", condition="data.n >")
    return replace(definition, steps=(*definition.steps, sick))
