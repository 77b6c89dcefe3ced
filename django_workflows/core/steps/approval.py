"""A vote: approved, rejected, or outcomes of one's own, under a quorum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from django_workflows.core.definition import REJECTED, Definition
from django_workflows.core.human_tasks import Quorum
from django_workflows.core.validation import Problem

from .base import step_type
from .human import HumanStep


@step_type("approval")
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalStep(HumanStep):
    """The first outcome is the positive one, which ``quorum`` counts."""

    outcomes: tuple[str, ...] = ("approved", REJECTED)
    quorum: Quorum = field(default_factory=Quorum)

    @property
    def quorum_policy(self) -> Quorum:
        return self.quorum

    def problems(self, definition: Definition) -> Iterator[Problem]:
        # dataclass(slots=True) makes a new class, which the two-argument form of super() needs not know
        yield from HumanStep.problems(self, definition)
        place = f"steps.{self.name}.quorum"
        for text in self.quorum.problems():
            yield Problem(code="invalid_quorum", place=place, message=text)
        named = len(set(self.assign.users))
        closed = not (self.assign.groups or self.assign.expression or self.assign.function)
        if closed and named and self.quorum.kind == "count" and self.quorum.value > named:
            yield Problem(
                code="quorum_out_of_reach",
                place=place,
                message=f"{self.quorum.value} positive answers are needed, but only {named} people are named",
            )
