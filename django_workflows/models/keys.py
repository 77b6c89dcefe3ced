"""Primary keys: ours sort by time, and those of users are read in the user model's own type."""

from __future__ import annotations

import sys
import uuid
from typing import Any

from django.contrib.auth import get_user_model

from django_workflows.core.commands import Actor

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils.compat import uuid7


def new_id() -> uuid.UUID:
    """A UUIDv7: later ones sort after earlier ones, so that an index grows at its end."""
    return uuid7()


def user_key(actor: Actor) -> Any:
    """The primary key of the actor's user, in the user model's own type; ``None`` for the system."""
    return get_user_model()._meta.pk.to_python(actor.id) if actor.id else None
