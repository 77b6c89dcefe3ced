"""One Django signal per event name, sent after commit with ``send_robust``; best effort.

Every signal's ``sender`` is the model class of the event's subject, ``WorkflowInstance``, or
``WorkflowDefinition`` for ``definition_published`` and ``definition_retired``. Every signal
provides: ``event`` (the ``WorkflowEvent`` row, sensitive values masked), ``instance_id``,
``definition_id``, ``step``, ``actor`` (the name) and ``payload`` (the fields that
``core.events.CATALOGUE`` promises for the name).

Who must miss nothing reads the log by cursor instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.dispatch import Signal

from django_workflows.states import EventName

#: Event name -> its signal. Each is also an attribute of this module: ``signals.step_completed``.
SIGNALS: Final[Mapping[EventName, Signal]] = {name: Signal() for name in EventName}

globals().update({name.value: signal for name, signal in SIGNALS.items()})


def __getattr__(name: str) -> Signal:
    """For type checkers: every event name is a signal of this module."""
    raise AttributeError(f"there is no event, and so no signal, named {name!r}")
