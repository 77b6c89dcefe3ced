"""Every error the app raises on purpose.

    WorkflowError
    ├── DefinitionError            a drawing cannot be used
    │   ├── InvalidDefinition      it has problems; all of them are listed
    │   ├── DefinitionNotFound     no such name and version
    │   ├── DefinitionConflict     the same name and version already mean something else
    │   └── FunctionNotRegistered  a name that no code has registered
    ├── InvalidInput               what was sent cannot be accepted
    │   ├── InvalidValue           a value that JSON cannot carry (NaN, NUL, an object …)
    │   ├── PayloadTooLarge        more bytes or deeper nesting than allowed
    │   ├── InvalidForm            form data that violates the task's schema
    │   └── UnknownOutcome         an outcome the task does not offer
    ├── ExpressionError            an expression failed while it was evaluated
    ├── NotAuthorized              the actor may not do this
    ├── TransitionNotAllowed       not in this state
    │   ├── TaskClaimed            somebody else holds the task
    │   ├── AlreadyDecided         the actor has already decided, or the task is closed
    │   └── StaleAttempt           a worker reports on an attempt that is no longer the current one
    ├── NotFound                   no such instance, task or step execution
    ├── DuplicateInstance          business key or idempotency key is taken
    ├── LimitReached               as many instances of the workflow live as its definition allows
    ├── CancellationError          what ``ctx.check_cancellation()`` raises in a step that is to stop
    └── StepError                  raised by user code in a machine step
        ├── RetryableError         try again, after ``retry_after`` if given
        └── FatalError             do not try again

    StepTimeout                    stands outside of the tree and of ``Exception``: a body that
                                   catches everything must not swallow the end of its time

Each has a stable ``code`` for machines and carries its facts as attributes.
HTTP meaning lives in ``api/base.py`` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from django_workflows.core.validation import Problem


class WorkflowError(Exception):
    """The root of the tree; ``facts`` are also attributes of the error."""

    code: ClassVar[str] = "workflow_error"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts: Mapping[str, Any] = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, dict(self.facts)))


def _rebuild(kind: type[WorkflowError], message: str, facts: dict[str, Any]) -> WorkflowError:
    error = kind.__new__(kind)
    WorkflowError.__init__(error, message, **facts)
    return error


class DefinitionError(WorkflowError):
    """A drawing cannot be used."""

    code = "definition_error"


class InvalidDefinition(DefinitionError):
    """A definition with problems; ``problems`` lists every one of them."""

    code = "invalid_definition"
    problems: tuple[Problem, ...]

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in found)
        super().__init__(
            f"Workflow {name!r} cannot be used, it has {len(found)} problem(s):{lines}",
            name=name,
            problems=found,
        )


class DefinitionNotFound(DefinitionError):
    """No such name and version."""

    code = "definition_not_found"


class DefinitionConflict(DefinitionError):
    """The same name and version already mean something else."""

    code = "definition_conflict"


class FunctionNotRegistered(DefinitionError):
    """A function name that no code has registered."""

    code = "function_not_registered"


class InvalidInput(WorkflowError):
    """What was sent cannot be accepted."""

    code = "invalid_input"


class InvalidValue(InvalidInput):
    """A value that JSON cannot carry; ``path`` leads to it, as in ``$.lines[2].amount``."""

    code = "invalid_value"
    path: str


class PayloadTooLarge(InvalidInput):
    """More bytes, or deeper nesting, than allowed."""

    code = "payload_too_large"


class InvalidForm(InvalidInput):
    """Form data that violates the schema; ``errors`` maps each field to its messages."""

    code = "invalid_form"
    errors: Mapping[str, Sequence[str]]

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        listed = "; ".join(f"{field or 'form'}: {' '.join(texts)}" for field, texts in errors.items())
        super().__init__(f"The form was not accepted. {listed}", errors=dict(errors))


class UnknownOutcome(InvalidInput):
    """An outcome the task does not offer; ``allowed`` names those it does."""

    code = "unknown_outcome"
    allowed: Sequence[str]


class ExpressionError(WorkflowError):
    """An expression failed; ``text`` is its source."""

    code = "expression_error"


class NotAuthorized(WorkflowError):
    """The actor may not do this."""

    code = "not_authorized"


class TransitionNotAllowed(WorkflowError):
    """The verb is legal, but not in this state; ``status`` is the state it met."""

    code = "transition_not_allowed"


class TaskClaimed(TransitionNotAllowed):
    """Somebody else holds the task; ``holder`` is that person's name."""

    code = "task_claimed"


class AlreadyDecided(TransitionNotAllowed):
    """The actor has already decided, or the task is closed."""

    code = "already_decided"


class StaleAttempt(TransitionNotAllowed):
    """A worker reports on an attempt that is no longer the current one."""

    code = "stale_attempt"


class NotFound(WorkflowError):
    """No such instance, task or step execution."""

    code = "not_found"


class DuplicateInstance(WorkflowError):
    """The business key is taken; ``instance_id`` says by which instance."""

    code = "duplicate_instance"


class LimitReached(WorkflowError):
    """As many instances live as the definition's ``max_active`` allows; ``limit`` is that number."""

    code = "limit_reached"


class CancellationError(WorkflowError):
    """The step is to stop: its instance is being canceled, or its attempt is no longer the current one.

    A body may catch it to clean up; raised further, it ends the step as canceled.
    """

    code = "cancellation"


class StepTimeout(BaseException):
    """The body took longer than the step's ``timeout``; ``limit`` is that in seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"The step took longer than its timeout of {limit:g} s.")
        self.limit = limit


class StepError(WorkflowError):
    """Raised by the body of a machine step to say how its failure is to be treated."""

    code = "step_error"


class RetryableError(StepError):
    """Try again, after ``retry_after`` (seconds or a timedelta) instead of the policy's delay."""

    code = "retryable_error"
    retry_after: float | timedelta | None

    def __init__(self, message: str = "", *, retry_after: float | timedelta | None = None) -> None:
        super().__init__(message, retry_after=retry_after)


class FatalError(StepError):
    """Do not try again, whatever the retry policy says."""

    code = "fatal_error"


def mark_step(error: BaseException, step: str) -> None:
    """Note on any error that an inline step raised it, and so refused the transition that reached it."""
    with suppress(AttributeError):  # an error with slots has no place for the note
        error.workflow_step = step  # type: ignore[attr-defined]


def refusing_step(error: BaseException) -> str:
    """The inline step that raised the error, and refused the transition by it; empty for any other error."""
    return str(getattr(error, "workflow_step", ""))
