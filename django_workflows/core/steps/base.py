"""The registry of step types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from django_workflows.core.definition import Step
from django_workflows.core.validation import Problem

#: Type name -> its class.
STEP_TYPES: Final[dict[str, type[Step]]] = {}


def step_type(name: str) -> Callable[[type[Step]], type[Step]]:
    """Register a ``Step`` subclass under ``name``, as drawings and stored definitions call it.

    Raises ``TypeError`` if another class holds the name.
    """

    def register(cls: type[Step]) -> type[Step]:
        holder = STEP_TYPES.get(name)
        if holder is not None and holder.__qualname__ != cls.__qualname__:
            raise TypeError(f"Step type {name!r} is already registered by {holder.__qualname__}.")
        cls.type = name
        STEP_TYPES[name] = cls
        return cls

    return register


def never_skipped(step: Step) -> Iterator[Problem]:
    """A half of a parallel gateway cannot be passed by: its other half would wait in vain."""
    for name in ("condition", "skip_if", "guard"):
        if getattr(step, name):
            yield Problem(
                code="skipped_gateway",
                place=f"steps.{step.name}.{name}",
                message=f"a {step.type} cannot be skipped; put the {name} on its branches",
            )
