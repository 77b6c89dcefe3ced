"""Running a definition without a database: events in, events out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django_workflows.core import commands as c
from django_workflows.core.authoring import StepDraft, Workflow, compile_workflow
from django_workflows.core.definition import Definition
from django_workflows.core.effects import CallFunction, EnqueueStep, Question, ResolveAssignment, RunInline
from django_workflows.core.events import Event
from django_workflows.core.machine import decide
from django_workflows.core.snapshot import Snapshot, evolve

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ANN = c.Actor(id="1", name="ann")
BEN = c.Actor(id="2", name="ben")


def name_of(function: Callable[..., Any]) -> str:
    return function.__name__


def compiled(name: str = "sample", **body: Any) -> Definition:
    """The definition of a workflow with this body; nothing is registered."""
    for attribute, value in body.items():
        if isinstance(value, StepDraft):
            value.__set_name__(object, attribute)
    workflow = type("Sample", (Workflow,), {"abstract": True, "name": name, **body})
    return compile_workflow(workflow, name_of)


class Story:
    """One instance, moved by commands; questions are answered as the test says."""

    def __init__(self, definition: Definition, *, people: int = 1, guard: bool = True, output: Any = None) -> None:
        self.definition = definition
        self.snapshot = Snapshot()
        self.events: list[Event] = []
        self.jobs: list[EnqueueStep] = []
        self.now = NOW
        self.people, self.guard, self.output = people, guard, output

    def send(self, command: c.Command) -> Story:
        questions: deque[Question] = deque()
        while True:
            transition = decide(self.definition, self.snapshot, command, now=self.now)
            self.snapshot = transition.snapshot
            self.events += transition.events
            self.jobs += [effect for effect in transition.effects if isinstance(effect, EnqueueStep)]
            questions.extend(transition.questions)
            questions = deque(question for question in questions if question.key in self.snapshot.tokens)
            if not questions:
                assert self.folded() == self.snapshot
                return self
            command = self.answer(questions.popleft())

    def answer(self, question: Question) -> c.Command:
        if isinstance(question, ResolveAssignment):
            people = tuple(c.Person(id=str(n), name=f"user{n}") for n in range(1, self.people + 1))
            return c.AnswerAssignment(key=question.key, users=people, electorate=self.people, found=self.people > 0)
        if isinstance(question, CallFunction):
            return c.AnswerFunction(key=question.key, purpose=question.purpose, value=self.guard)
        assert isinstance(question, RunInline)
        return c.CompleteStep(key=question.key, attempt=question.attempt, output=self.output)

    def folded(self) -> Snapshot:
        snapshot = Snapshot()
        for event in self.events:
            snapshot = evolve(snapshot, event)
        return snapshot

    def start(self, **data: Any) -> Story:
        return self.send(c.Start(data=data, about={"id": "x", "workflow": "sample", "initiator": "ann"}))

    def run(self, **result: Any) -> Story:
        """Run the oldest job."""
        job = self.jobs.pop(0)
        self.send(c.StartStep(key=job.key, attempt=job.attempt, worker="w"))
        return self.send(c.CompleteStep(key=job.key, attempt=job.attempt, **result))

    def decide(self, step: str, outcome: str, by: c.Actor = ANN, **options: Any) -> Story:
        return self.send(c.Decide(key=self.key(step), outcome=outcome, by=by, **options))

    def key(self, step: str) -> str:
        return next(key for key, token in self.snapshot.tokens.items() if token.step == step)

    def fire(self, step: str, timer: str = "sleep", after: timedelta = timedelta(0)) -> Story:
        self.now += after
        return self.send(c.FireTimer(key=self.key(step), timer=timer, due_at=self.now))

    @property
    def open(self) -> list[str]:
        return sorted(token.step for token in self.snapshot.tokens.values())

    @property
    def names(self) -> list[str]:
        return [str(event.name) for event in self.events]

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]
