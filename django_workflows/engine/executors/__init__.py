"""How work gets to a worker, chosen by the setting ``WORKFLOWS_EXECUTOR``."""

from __future__ import annotations

from functools import cache
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_workflows.conf import settings

from .base import Executor, Job

EXECUTORS: Final = {
    "django_q": "django_workflows.engine.executors.django_q.DjangoQExecutor",
    "immediate": "django_workflows.engine.executors.immediate.ImmediateExecutor",
    "recording": "django_workflows.engine.executors.recording.RecordingExecutor",
}


def executor() -> Executor:
    """The executor of the setting as it is now; one object per kind and process."""
    return _made(settings.EXECUTOR)


@cache
def _made(name: str) -> Executor:
    try:
        made = import_string(EXECUTORS.get(name, name))()
    except ImportError as error:
        raise ImproperlyConfigured(
            f"WORKFLOWS_EXECUTOR is {name!r}; allowed: {', '.join(EXECUTORS)}, or the path of an Executor class."
        ) from error
    if not isinstance(made, Executor):
        raise ImproperlyConfigured(f"WORKFLOWS_EXECUTOR names {name!r}, which is no Executor.")
    return made


__all__ = ["EXECUTORS", "Executor", "Job", "executor"]
