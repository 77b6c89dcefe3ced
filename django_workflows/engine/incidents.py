"""Making an incident of what the engine itself cannot mend, so that it does not try for ever."""

from __future__ import annotations

import logging
from typing import Any

from django.db import DatabaseError

from django_workflows.core.commands import RaiseIncident
from django_workflows.exceptions import DefinitionError, NotFound, TransitionNotAllowed

from .context import describe, traceback_text
from .runner import handle

logger = logging.getLogger("django_workflows.incidents")


def report_broken(instance_id: Any, key: str, error: Exception) -> None:
    """Stop the step execution with an incident, unless the database is what failed: that passes."""
    if isinstance(error, DatabaseError) or not key:
        return
    unknown = isinstance(error, DefinitionError)
    command = RaiseIncident(
        key=key,
        kind="definition_unusable" if unknown else "job_failed",
        message=describe(error),
        error_type=type(error).__name__,
        suggested_action=(
            "Deploy the code that this version of the definition needs, then retry the step."
            if unknown
            else "Look at the log for the cause, then retry the step, skip it, or fail the instance."
        ),
        diagnostics={"traceback": traceback_text(error)},
    )
    try:
        handle(instance_id, command)
    except (NotFound, TransitionNotAllowed):
        return  # it has ended in the meantime, or is known already
    except Exception:  # the edge of a job: there is nobody left to tell
        logger.exception("The incident about %s of instance %s could not be raised.", key, instance_id)
