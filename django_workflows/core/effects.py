"""What the core asks the engine to do: questions, answered at once, and things done outside.

Rows are not asked for: the recorder derives them from the events.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Concerns one open step execution."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Effect):
    """Answered within the same transaction by another command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInline(Question):
    """Run the body now; answered by ``CompleteStep``. An exception refuses the whole transition."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveAssignment(Question):
    """Find the candidates; answered by ``AnswerAssignment``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFunction(Question):
    """Call a registered function with the step's context; answered by ``AnswerFunction``."""

    purpose: str
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueStep(Effect):
    """Wake a worker for this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueInstance(Effect):
    """Wake a worker that runs a transient instance from its beginning."""

    key: str = ""
    attempt: int
