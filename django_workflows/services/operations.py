"""What the people who run the system do: delete what was kept long enough, look for what is wrong."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model

from django_workflows.core.durations import parse_duration
from django_workflows.engine import doctor, erasure, retention
from django_workflows.engine.doctor import Finding
from django_workflows.engine.retention import Pruned
from django_workflows.exceptions import InvalidInput

from .authority import actor_of, refuse


def _check_operator(by: Any, what: str) -> None:
    actor = actor_of(by)
    if not actor.is_system and not getattr(by, "is_superuser", False):
        raise refuse(actor, what, needs="being a superuser")


def prune(
    *,
    by: Any,
    older_than: str | float | timedelta | None = None,
    workflow: str = "",
    batch: int = retention.BATCH,
    max_batches: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete ended instances whose retention is over, in batches of their own transactions.

    ``older_than`` (a duration) takes the place of every retention; a legal hold never yields.
    Raises ``NotAuthorized``, ``InvalidValue`` for a wrong duration, ``InvalidInput`` for a wrong size.
    """
    _check_operator(by, "delete history")
    if not 1 <= batch <= 10_000:
        raise InvalidInput("A batch has 1 to 10,000 instances.", field="batch")
    keep = None if older_than is None else parse_duration(older_than)
    return retention.prune(older_than=keep, workflow=workflow, batch=batch, max_batches=max_batches, dry_run=dry_run)


def pseudonymize(user: Any, *, by: Any, pseudonym: str = "") -> tuple[int, int]:
    """Put a pseudonym in the place of a person's name in every instance that has ended.

    The history keeps its lines and still gives what is stored; what people and steps have said (data,
    forms, comments) is not searched. Returns how many instances were changed, and how many live ones
    were left: ask again when they have ended. Raises ``NotAuthorized``, or ``InvalidInput`` for a
    pseudonym that is somebody's name.
    """
    _check_operator(by, "pseudonymize a person")
    users = get_user_model()
    name = user.get_username()
    alias_name = pseudonym or f"person-{secrets.token_hex(4)}"
    if not isinstance(alias_name, str) or len(alias_name) > 150 or not alias_name.strip() or "\x00" in alias_name:
        raise InvalidInput("A pseudonym is a text of at most 150 characters.", field="pseudonym")
    if users._default_manager.filter(**{users.USERNAME_FIELD: alias_name}).exists():
        raise InvalidInput(f"{alias_name!r} is the name of a user.", field="pseudonym")
    return erasure.pseudonymize(user, name, alias_name)


def examine(*, by: Any, workflow: str = "", instance_id: Any = None, live_only: bool = False) -> Iterator[Finding]:
    """What is stuck, lost, drifted or orphaned; ``Finding.mend`` repairs what can be repaired safely."""
    _check_operator(by, "examine all instances")
    return doctor.examine(workflow=workflow, instance_id=instance_id, live_only=live_only)
