"""Who acts, and whether that is allowed."""

from __future__ import annotations

from typing import Any

from django_workflows.core.commands import Actor
from django_workflows.exceptions import NotAuthorized


def actor_of(by: Any) -> Actor:
    """The actor for a user or for ``SYSTEM``. Raises ``NotAuthorized`` for nobody, and for the inactive."""
    if isinstance(by, Actor):
        return by
    if by is None or not getattr(by, "is_authenticated", False):
        raise NotAuthorized("Nobody in particular may not act; sign in, or name SYSTEM.", actor="")
    name = by.get_username()
    if not by.is_active:
        raise NotAuthorized(f"{name} is not active and may not act.", actor=name)
    return Actor(id=str(by.pk), name=str(name))


def refuse(actor: Actor, what: str, *, needs: str) -> NotAuthorized:
    """The error for an actor without the right: who, what, and what it would take."""
    return NotAuthorized(f"{actor.name} may not {what}. It takes {needs}.", actor=actor.name, needs=needs)
