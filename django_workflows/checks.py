"""System checks: settings, database, queue, and code that has drifted from what is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, get_args, get_origin, get_type_hints

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connections
from django.utils.module_loading import import_string

from django_workflows import registry
from django_workflows.conf import Settings, settings
from django_workflows.core.codec import content_hash, differences, from_json
from django_workflows.core.definition import Definition
from django_workflows.core.durations import parse_duration
from django_workflows.engine.database import alias
from django_workflows.engine.executors import EXECUTORS
from django_workflows.engine.failpoints import ARMED
from django_workflows.exceptions import WorkflowError
from django_workflows.models import WorkflowDefinition
from django_workflows.states import DefinitionStatus


def register_all() -> None:
    register(check_settings, "workflows")
    register(check_definitions, "workflows")
    register(check_database, "workflows")
    register(check_queue, "workflows")
    register(check_drift, Tags.database)


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Every ``WORKFLOWS_*`` setting is known and of its type, every path can be imported."""
    return [*_unknown_settings(), *_ill_typed_settings(), *_senseless_settings(), *_broken_paths()]


def _unknown_settings() -> Iterator[CheckMessage]:
    known = {f"WORKFLOWS_{name}" for name in Settings.__annotations__}
    for name in dir(django_settings):
        if name.startswith("WORKFLOWS_") and name not in known:
            yield Error(
                f"{name} is no setting of django_workflows.",
                hint=f"Known settings: {', '.join(sorted(known))}.",
                id="workflows.E001",
            )


def _ill_typed_settings() -> Iterator[CheckMessage]:
    for name, hint in get_type_hints(Settings).items():
        value = getattr(settings, name)
        wanted = (tuple, list) if get_origin(hint) is tuple else (int, float) if hint is float else hint
        right = isinstance(value, wanted) and not (isinstance(value, bool) and hint is not bool)
        if right and get_origin(hint) is tuple:
            right = all(isinstance(item, get_args(hint)[0]) for item in value)
        if not right:
            yield Error(
                f"WORKFLOWS_{name} is {value!r}, which is no {getattr(hint, '__name__', hint)}.",
                hint=f"The default is {getattr(Settings, name)!r}.",
                id="workflows.E002",
            )
        elif isinstance(value, (int, float)) and value < (0 if name == "MAX_RECOVERY_ATTEMPTS" else 1e-9):
            yield Error(f"WORKFLOWS_{name} must be positive, not {value}.", hint="Leave it out.", id="workflows.E003")


def _senseless_settings() -> Iterator[CheckMessage]:
    if isinstance(settings.RETENTION, str) and settings.RETENTION:
        try:
            parse_duration(settings.RETENTION)
        except WorkflowError as error:
            yield Error(
                f"WORKFLOWS_RETENTION: {error.message}",
                hint='Write for example "365d", or leave it out to keep everything.',
                id="workflows.E009",
            )
    limits = settings.EVENT_SOFT_LIMIT, settings.EVENT_HARD_LIMIT
    if all(isinstance(limit, int) for limit in limits) and limits[0] >= limits[1]:
        yield Error(
            f"WORKFLOWS_EVENT_SOFT_LIMIT is {limits[0]} and warns of nothing: the hard limit is {limits[1]}.",
            hint="Let the soft limit be the lower one.",
            id="workflows.E010",
        )
    if ARMED:
        yield Warning(
            f"WORKFLOWS_FAILPOINTS is set in the environment: this process dies at {', '.join(ARMED)}.",
            hint="That is for tests only; unset it.",
            id="workflows.W006",
        )


def _broken_paths() -> Iterator[CheckMessage]:
    paths = {name: getattr(settings, name) for name in ("MANAGER_OF", "TENANT_OF_REQUEST", "PERMISSION_POLICY")}
    if settings.EXECUTOR not in EXECUTORS:
        paths["EXECUTOR"] = settings.EXECUTOR
    for name, path in paths.items():
        try:
            if path:
                import_string(path)
        except (ImportError, AttributeError, TypeError) as error:
            yield Error(
                f"WORKFLOWS_{name} cannot be imported: {error}",
                hint="Name it by its dotted path.",
                id="workflows.E004",
            )


def check_definitions(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Every registered workflow class compiles and is valid."""
    found: list[CheckMessage] = []
    for workflow in registry.workflows():
        try:
            registry.definition_of(workflow)
        except (WorkflowError, TypeError) as error:
            found.append(Error(str(error), hint="Correct the class.", obj=workflow, id="workflows.E005"))
        else:
            found += _timeout_problems(workflow)
    return found


def _timeout_problems(workflow: Any) -> Iterator[CheckMessage]:
    """Timeouts of steps that cannot be kept, or that the cluster forestalls."""
    ends = getattr(django_settings, "Q_CLUSTER", {}).get("timeout")
    for step in registry.definition_of(workflow).steps:
        seconds = getattr(step, "seconds", None)
        if seconds is None:
            continue
        if settings.EXECUTOR == "immediate":
            yield Warning(
                f"The timeout of {workflow.__qualname__}.{step.name} stops nothing in a thread of a web server.",
                hint="The immediate executor judges it when the step is through; a django-q2 worker stops it.",
                obj=workflow,
                id="workflows.W007",
            )
        elif settings.EXECUTOR == "django_q" and ends is not None and ends <= seconds:
            yield Warning(
                f"The timeout of {workflow.__qualname__}.{step.name} is {seconds:g} s, the cluster's is {ends} s.",
                hint='Set Q_CLUSTER["timeout"] above the timeout of every step.',
                obj=workflow,
                id="workflows.W008",
            )


def check_database(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The law is in partial indexes and row locks, which not every database has."""
    connection = connections[alias()]
    if connection.vendor not in ("postgresql", "sqlite"):
        return [
            Error(
                f"django_workflows does not run on {connection.display_name}: it has no partial unique indexes.",
                hint="Use PostgreSQL or SQLite.",
                id="workflows.E006",
            )
        ]
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor == "sqlite" and str(options.get("transaction_mode", "")).upper() != "IMMEDIATE":
        return [
            Warning(
                "SQLite transactions begin deferred, so two writers can fail with 'database is locked'.",
                hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE"} on the database.',
                id="workflows.W001",
            )
        ]
    return []


def check_queue(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Settings of django-q2 under which jobs run twice, never, or outside of our transaction."""
    if settings.EXECUTOR != "django_q":
        return []
    queue = getattr(django_settings, "Q_CLUSTER", {})
    if "django_q" not in django_settings.INSTALLED_APPS:
        return [
            Error(
                "WORKFLOWS_EXECUTOR is django_q, but django_q is not installed.",
                hint="Add it to INSTALLED_APPS, or set WORKFLOWS_EXECUTOR to 'immediate'.",
                id="workflows.E007",
            )
        ]
    return [*_queue_problems(queue)]


def _queue_problems(queue: dict[str, Any]) -> Iterator[CheckMessage]:
    if queue.get("orm") not in (None, alias()):
        yield Warning(
            f"The queue is in the database {queue['orm']!r}, the workflows are in {alias()!r}.",
            hint=f'Set Q_CLUSTER["orm"] to {alias()!r}, so that a message commits with its step.',
            id="workflows.W002",
        )
    timeout, retry = queue.get("timeout"), queue.get("retry", 60)
    workers = queue.get("workers") or 1
    if timeout is None:
        yield Warning(
            "Q_CLUSTER has no timeout, so a step that hangs holds its worker for ever.",
            hint='Set Q_CLUSTER["timeout"] to the seconds that the longest step may take.',
            id="workflows.W003",
        )
    else:
        waits = 1 + ceil((queue.get("queue_limit", workers**2) + queue.get("bulk", 1)) / workers)
        if retry <= timeout * waits:
            yield Warning(
                f"Q_CLUSTER delivers a message again after {retry} s, while it may wait {timeout * waits} s.",
                hint=f'Set Q_CLUSTER["retry"] above {timeout * waits}, and queue_limit to the number of workers.',
                id="workflows.W004",
            )
    if not queue.get("ack_failures"):
        yield Warning(
            "Q_CLUSTER repeats failed jobs for ever.",
            hint='Set Q_CLUSTER["ack_failures"] to True.',
            id="workflows.W005",
        )


def check_drift(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Code that says something else than the published version of the same number."""
    if alias() not in (databases or ()):
        return []
    try:
        rows = {
            (row.name, row.version): row
            for row in WorkflowDefinition.objects.using(alias())
            .filter(tenant="")
            .exclude(status=DefinitionStatus.DRAFT)
        }
    except DatabaseError:
        return []  # not migrated yet
    found: list[CheckMessage] = []
    for workflow in registry.workflows():
        try:
            definition = registry.definition_of(workflow)
        except (WorkflowError, TypeError):
            continue  # check_definitions tells
        row = rows.get((definition.name, definition.version))
        if row is not None and row.content_hash != content_hash(definition):
            changed = _changed(row, definition)
            found.append(
                Error(
                    f"{row} is published and never changes, but its code differs: {changed}.",
                    hint="Raise the version of the class, and put the change there.",
                    obj=workflow,
                    id="workflows.E008",
                )
            )
    return found


def _changed(row: WorkflowDefinition, definition: Definition) -> str:
    try:
        return "; ".join(differences(from_json(row.content), definition))
    except WorkflowError as error:  # written by a version that knew what this one does not
        return f"what is published cannot be read any more ({error.message})"
