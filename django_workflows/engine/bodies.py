"""Calling the function of a machine step, and putting what it does into a command."""

from __future__ import annotations

import asyncio
import inspect
import logging
from datetime import timedelta
from random import random
from typing import Any

from asgiref.sync import async_to_sync
from django.db import transaction

from django_workflows.conf import settings
from django_workflows.core import expressions
from django_workflows.core.commands import CompleteStep, FailStep
from django_workflows.core.definition import Definition
from django_workflows.core.durations import parse_duration
from django_workflows.core.snapshot import Snapshot, Token, scope_of
from django_workflows.core.steps import MachineStep
from django_workflows.core.values import decode, encode
from django_workflows.exceptions import FatalError, FunctionNotRegistered, InvalidInput, RetryableError, StepTimeout
from django_workflows.models import WorkflowInstance
from django_workflows.registry import function_named, has_function

from . import clock
from .context import StepContext, describe, traceback_text
from .database import alias
from .reporting import Reporter

logger = logging.getLogger("django_workflows.jobs")


def call_body(
    row: WorkflowInstance,
    definition: Definition,
    snapshot: Snapshot,
    token: Token,
    reporter: Reporter,
) -> CompleteStep:
    """Run the body to its end; ``on_success`` is not called here. Raises what the body raises."""
    step = machine_step(definition, token)
    context = StepContext(row, snapshot, token, reporter)
    arguments = _arguments(step, snapshot)
    output = called(step.function, context, limit=step.seconds, **arguments)
    changes, removed = context.changes()
    return CompleteStep(
        key=token.key,
        attempt=token.attempt,
        input=arguments,
        output=encode(output, max_bytes=settings.MAX_PAYLOAD_BYTES),
        outcome=context.chosen,
        changes=changes,
        removed=removed,
    )


def machine_step(definition: Definition, token: Token) -> MachineStep:
    step = definition.step(token.step)
    if not isinstance(step, MachineStep):
        raise TypeError(f"{token.key} is no machine step.")
    return step


def _arguments(step: MachineStep, snapshot: Snapshot) -> dict[str, Any]:
    if not step.arguments:
        return {}
    scope = scope_of(snapshot, clock.now())
    return {name: expressions.evaluate(text, scope) for name, text in step.arguments.items()}


def called(name: str, context: StepContext, /, *args: Any, limit: float | None = None, **kwargs: Any) -> Any:
    """Call a registered function, which may be a coroutine function; that one is canceled at its ``limit``."""
    function = function_named(name)
    if not inspect.iscoroutinefunction(function):
        return function(context, *args, **kwargs)

    async def bounded() -> tuple[Any, bool]:
        try:
            async with asyncio.timeout(limit) as bound:
                return await function(context, *args, **kwargs), False
        except TimeoutError:
            if not bound.expired():
                raise
            return None, True

    found, too_late = async_to_sync(bounded)()
    if too_late and limit is not None:
        raise StepTimeout(limit)
    return found


def alarm_after(step: MachineStep) -> float | None:
    """Seconds after which the process interrupts the body; a coroutine ends itself a little sooner."""
    seconds = step.seconds
    if seconds is None or not has_function(step.function):
        return seconds
    return seconds + 1.0 if inspect.iscoroutinefunction(function_named(step.function)) else seconds


def succeeded(
    row: WorkflowInstance, definition: Definition, snapshot: Snapshot, token: Token, done: CompleteStep
) -> None:
    """Call ``on_success(ctx, result)``, once, in the transaction that records the completion."""
    step = machine_step(definition, token)
    if step.on_success:
        called(step.on_success, StepContext(row, snapshot, token), decode(done.output))


def failed(
    row: WorkflowInstance, definition: Definition, snapshot: Snapshot, token: Token, error: BaseException
) -> FailStep | CompleteStep:
    """What a failure of the body leads to: another attempt, giving up, or what ``on_failure`` makes of it.

    ``on_failure(ctx, error)`` is called when nothing more is to be tried; if it returns ``True`` the
    failure counts as handled and the step as done, with the data that it set. If it raises, the failure
    stands and what it wrote is rolled back.
    """
    step = machine_step(definition, token)
    failure = failure_of(step, token, error)
    if failure.retry_in is not None or not step.on_failure:
        return failure
    context = StepContext(row, snapshot, token)
    try:
        with transaction.atomic(using=alias()):
            is_handled = called(step.on_failure, context, error) is True
            changes, removed = context.changes()
    except Exception:  # user code: what it wrote is rolled back, and the failure stands
        logger.exception("on_failure of %s in instance %s failed itself.", token.key, row.pk)
        return failure
    if not is_handled:
        return failure
    return CompleteStep(key=token.key, attempt=token.attempt, changes=changes, removed=removed, outcome=context.chosen)


def failure_of(step: MachineStep, token: Token, error: BaseException) -> FailStep:
    """The failure as a command, with the retry policy's answer."""
    hopeless = isinstance(error, (FatalError, FunctionNotRegistered, InvalidInput))
    retryable = False if hopeless else (True if isinstance(error, RetryableError) else None)
    retry_in = step.retry.decide(
        attempt=token.attempt,
        error_names=_names(error),
        retryable=retryable,
        retry_after=_retry_after(error),
        unit=random(),  # noqa: S311 - jitter, no secret
    )
    return FailStep(
        key=token.key,
        attempt=token.attempt,
        error=describe(error),
        error_type=type(error).__name__,
        traceback=traceback_text(error),
        retryable=not hopeless,
        retry_in=retry_in,
        timed_out_after=error.limit if isinstance(error, StepTimeout) else None,
    )


def _names(error: BaseException) -> tuple[str, ...]:
    """The simple and the dotted names of the error's classes."""
    names: list[str] = []
    for kind in type(error).__mro__:
        names += [kind.__name__, f"{kind.__module__}.{kind.__qualname__}"]
    return tuple(names)


def _retry_after(error: BaseException) -> timedelta | None:
    after = getattr(error, "retry_after", None) if isinstance(error, RetryableError) else None
    return None if after is None else parse_duration(after)
