"""Telling who wants to know: Django signals and listeners, after the commit, in order, isolated.

Both are best effort: whoever must miss nothing reads the log, ``read_log``, by cursor.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import transaction

from django_workflows import signals
from django_workflows.conf import settings
from django_workflows.core.masking import mask
from django_workflows.engine.failpoints import reach
from django_workflows.engine.loader import sensitive_of
from django_workflows.models import WorkflowDefinition, WorkflowEvent, WorkflowInstance
from django_workflows.states import EventName

logger = logging.getLogger("django_workflows.listeners")


class Listener:
    """Follows what happens in this process. Override ``on_event`` (it may be ``async``).

    ``instance_id`` narrows it to one instance.
    """

    def __init__(self, instance_id: UUID | None = None) -> None:
        self.instance_id = instance_id

    def on_event(self, event: WorkflowEvent) -> Any:
        """Called once per event, in the order of the log, after the commit."""


class CallbackListener(Listener):
    """Calls a function, plain or ``async``, with every event."""

    def __init__(self, callback: Callable[[WorkflowEvent], Any], instance_id: UUID | None = None) -> None:
        super().__init__(instance_id)
        self.callback = callback

    def on_event(self, event: WorkflowEvent) -> Any:
        return self.callback(event)


_listeners: list[Listener] = []
#: Tasks of asynchronous listeners, kept so that they are not collected while they run.
_under_way: set[asyncio.Task[None]] = set()


def start_listening(listener: Listener | Callable[[WorkflowEvent], Any], instance_id: UUID | None = None) -> Listener:
    """Let a listener, or a function, hear every event from now on; returns the listener."""
    if not isinstance(listener, Listener):
        listener = CallbackListener(listener, instance_id)
    _listeners.append(listener)
    return listener


def stop_listening(listener: Listener) -> None:
    """Ends it; a listener that does not listen is left alone."""
    if listener in _listeners:
        _listeners.remove(listener)


def is_heard(names: Iterable[EventName]) -> bool:
    """Whether anybody would hear one of these events."""
    return bool(_listeners) or any(signals.SIGNALS[name].receivers for name in names)


def announce(lines: Sequence[WorkflowEvent], *, sensitive: Sequence[str], using: str) -> None:
    """Send the events when the transaction that is open has been committed."""
    if is_heard(EventName(line.name) for line in lines):

        def send() -> None:
            _send(lines, sensitive)

        transaction.on_commit(send, using=using, robust=True)


def _send(lines: Sequence[WorkflowEvent], sensitive: Sequence[str]) -> None:
    reach("F6")
    for line in lines:
        event = masked(line, sensitive)
        _send_signal(event)
        for listener in tuple(_listeners):
            if listener.instance_id in (None, event.instance_id):
                _tell(listener, event)


def masked(line: WorkflowEvent, sensitive: Sequence[str]) -> WorkflowEvent:
    """The event with the values of these keys, and of ``WORKFLOWS_SENSITIVE_KEYS``, hidden.

    The row in the database stays as it is.
    """
    line.payload = mask(line.payload, (*settings.SENSITIVE_KEYS, *sensitive))
    return line


def _send_signal(event: WorkflowEvent) -> None:
    sender = WorkflowInstance if event.instance_id else WorkflowDefinition
    answers = signals.SIGNALS[EventName(event.name)].send_robust(
        sender=sender,
        event=event,
        instance_id=event.instance_id,
        definition_id=event.definition_id,
        step=event.step,
        actor=event.actor_name,
        payload=event.payload,
    )
    for receiver, error in answers:
        if isinstance(error, Exception):
            logger.error("The receiver %r of %s failed.", receiver, event.name, exc_info=error)


def _tell(listener: Listener, event: WorkflowEvent) -> None:
    try:
        answer = listener.on_event(event)
        if inspect.isawaitable(answer):
            _wait(answer)
    except Exception:  # a listener must never disturb the run
        logger.exception("The listener %r failed on %s.", listener, event.name)


def _wait(answer: Any) -> None:
    """Run an ``async`` listener to its end, from a thread with or without a running loop."""

    async def finish() -> None:
        await answer

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        async_to_sync(finish)()
        return
    task = loop.create_task(finish())
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


def read_log(instance_id: Any, *, after: int = 0, limit: int = 500) -> Iterator[WorkflowEvent]:
    """The history of an instance behind a sequence number: the cursor that misses nothing."""
    lines = list(WorkflowEvent.objects.of(instance_id).after(after)[:limit])
    sensitive = sensitive_of(lines[0].definition_id) if lines else ()
    for line in lines:
        if sensitive is None:
            line.payload = {}
        yield masked(line, sensitive or ())
