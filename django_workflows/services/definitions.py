"""Publishing and retiring definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from django_workflows import registry
from django_workflows.core.authoring import Workflow
from django_workflows.core.codec import content_hash, differences, from_json, loads, to_json
from django_workflows.core.commands import SYSTEM, Actor
from django_workflows.core.definition import Definition
from django_workflows.core.validation import ensure_valid
from django_workflows.core.versions import version_key
from django_workflows.engine import clock
from django_workflows.engine.database import alias
from django_workflows.exceptions import (
    DefinitionConflict,
    DefinitionNotFound,
    InvalidInput,
    TransitionNotAllowed,
)
from django_workflows.listeners import announce
from django_workflows.models import WorkflowDefinition, WorkflowEvent
from django_workflows.models.keys import user_key
from django_workflows.permissions import policy
from django_workflows.states import DefinitionStatus, EventName

from .authority import actor_of, refuse

Source = type[Workflow] | Definition | WorkflowDefinition | Mapping[str, Any] | str | bytes


def read(source: Source) -> Definition:
    """A definition from a class, JSON or YAML; raises ``InvalidDefinition`` and its kin."""
    if isinstance(source, WorkflowDefinition):
        source = source.content
    if isinstance(source, type) and issubclass(source, Workflow):
        return registry.definition_of(source)
    if isinstance(source, Definition):
        definition = source
    elif isinstance(source, Mapping):
        definition = from_json(source)
    elif isinstance(source, (str, bytes)):
        definition = loads(source)
    else:
        raise InvalidInput(f"A workflow class, a Definition, JSON or YAML is expected, not {source!r}.")
    ensure_valid(definition)
    registry.ensure_functions(definition)
    return definition


def publish(source: Source, *, by: Any, tenant: str = "") -> WorkflowDefinition:
    """Freeze a version and make it startable. Publishing the same content again changes nothing.

    Raises ``InvalidDefinition`` with every problem, ``FunctionNotRegistered``, ``NotAuthorized``, or
    ``DefinitionConflict`` (naming the differences) if this version is published with another content.
    """
    actor = actor_of(by)
    definition = read(source)
    is_code = isinstance(source, type)
    with transaction.atomic(using=alias()):
        row = _row(definition, tenant, for_update=True)
        if not actor.is_system and not policy().may_publish(by, row):
            raise refuse(actor, f"publish {definition.name}", needs="the right to publish")
        if row is not None and row.status != DefinitionStatus.DRAFT:
            _check_same(row, definition)
            return row
        return _freeze(row, definition, actor, tenant, is_code=is_code)


def save_draft(source: Source, *, by: Any, tenant: str = "") -> WorkflowDefinition:
    """Store a definition that may still be wrong; it starts nothing until ``publish`` freezes it.

    Raises ``InvalidDefinition`` for what is no definition at all, ``NotAuthorized``, or
    ``DefinitionConflict`` if this version is published already.
    """
    actor = actor_of(by)
    definition = from_json(source) if isinstance(source, Mapping) else source
    definition = loads(definition) if isinstance(definition, (str, bytes)) else definition
    if not isinstance(definition, Definition):
        raise InvalidInput(f"A Definition, JSON or YAML is expected, not {source!r:.80}.")
    with transaction.atomic(using=alias()):
        row = _row(definition, tenant, for_update=True)
        if not actor.is_system and not policy().may_publish(by, row):
            raise refuse(actor, f"store a draft of {definition.name}", needs="the right to publish")
        if row is not None and row.status != DefinitionStatus.DRAFT:
            raise DefinitionConflict(
                f"{row.name} version {row.version} is published and never changes. Raise the version.",
                name=row.name,
                version=row.version,
            )
        row = row or WorkflowDefinition(tenant=tenant, name=definition.name, version=definition.version)
        _fill(row, definition)
        row.save(using=alias())
        return row


def _fill(row: WorkflowDefinition, definition: Definition) -> None:
    row.version_key = version_key(definition.version)
    row.title, row.description, row.tags = definition.label, definition.description, list(definition.tags)
    row.content, row.content_hash, row.start = to_json(definition), content_hash(definition), definition.start


def _row(definition: Definition, tenant: str, *, for_update: bool = False) -> WorkflowDefinition | None:
    rows = WorkflowDefinition.objects.using(alias())
    rows = rows.select_for_update() if for_update else rows
    return rows.filter(tenant=tenant, name=definition.name, version=definition.version).first()


def _check_same(row: WorkflowDefinition, definition: Definition) -> None:
    if row.content_hash == content_hash(definition):
        return
    found = differences(from_json(row.content), definition)
    listed = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
    raise DefinitionConflict(
        f"{row.name} version {row.version} is published and never changes. Raise the version. It differs: {listed}.",
        name=row.name,
        version=row.version,
        differences=found,
    )


def _freeze(
    row: WorkflowDefinition | None, definition: Definition, actor: Actor, tenant: str, *, is_code: bool
) -> WorkflowDefinition:
    now = clock.now()
    row = row or WorkflowDefinition(tenant=tenant, name=definition.name, version=definition.version)
    _fill(row, definition)
    row.is_code = is_code
    row.status, row.published_at = DefinitionStatus.PUBLISHED, now
    row.published_by_id, row.published_by_name = user_key(actor), actor.name
    try:
        with transaction.atomic(using=alias()):
            row.save(using=alias())
    except IntegrityError:
        # somebody else published the same version at the same moment
        other = _row(definition, tenant)
        if other is None:
            raise
        _check_same(other, definition)
        return other
    _note(row, EventName.DEFINITION_PUBLISHED, actor, content_hash=row.content_hash)
    return row


def _note(row: WorkflowDefinition, name: EventName, actor: Actor, **payload: Any) -> None:
    """An event of a definition; its numbers run from 1 like those of an instance."""
    before = WorkflowEvent.objects.using(alias()).filter(definition=row, instance=None).count()
    line = WorkflowEvent(
        tenant=row.tenant,
        definition=row,
        sequence=before + 1,
        name=name.value,
        at=clock.now(),
        actor_id=user_key(actor),
        actor_name=actor.name,
        payload={"name": row.name, "version": row.version, **payload},
    )
    line.save(using=alias(), force_insert=True)
    announce([line], sensitive=(), using=alias())


def retire(definition: WorkflowDefinition | str, *, by: Any, version: str = "", tenant: str = "") -> WorkflowDefinition:
    """Let a version start nothing more; what runs on it goes on."""
    return _move(definition, version, tenant, by, DefinitionStatus.PUBLISHED, DefinitionStatus.RETIRED)


def reactivate(
    definition: WorkflowDefinition | str, *, by: Any, version: str = "", tenant: str = ""
) -> WorkflowDefinition:
    """Let a retired version start instances again."""
    return _move(definition, version, tenant, by, DefinitionStatus.RETIRED, DefinitionStatus.PUBLISHED)


def _move(
    definition: WorkflowDefinition | str,
    version: str,
    tenant: str,
    by: Any,
    source: DefinitionStatus,
    target: DefinitionStatus,
) -> WorkflowDefinition:
    actor = actor_of(by)
    with transaction.atomic(using=alias()):
        row = _find(definition, version, tenant)
        if not actor.is_system and not policy().may_publish(by, row):
            raise refuse(actor, f"publish or retire {row.name}", needs="the right to publish")
        if row.status != source:
            raise TransitionNotAllowed(
                f"{row.name} version {row.version} is {row.status}; only a {source} one can become {target}.",
                status=row.status,
            )
        row.status = target
        row.save(using=alias(), update_fields=["status"])
        retired = target == DefinitionStatus.RETIRED
        if retired:
            _note(row, EventName.DEFINITION_RETIRED, actor)
        else:
            _note(row, EventName.DEFINITION_PUBLISHED, actor, content_hash=row.content_hash)
        return row


def _find(definition: WorkflowDefinition | str, version: str, tenant: str) -> WorkflowDefinition:
    rows = WorkflowDefinition.objects.using(alias()).select_for_update()
    if isinstance(definition, WorkflowDefinition):
        rows = rows.filter(pk=definition.pk)
    else:
        rows = rows.filter(name=definition, tenant=tenant).order_by("-version_key")
        rows = rows.filter(version=version) if version else rows
    row = rows.first()
    if row is None:
        raise DefinitionNotFound(f"There is no definition {definition} {version}".rstrip() + ".", name=str(definition))
    return row


def mirror() -> list[WorkflowDefinition]:
    """Publish every registered workflow class that is not published yet; what differs is left alone.

    What is published and differs from its code is reported by the system check, not here.
    """
    rows = []
    for workflow in registry.workflows():
        definition = registry.definition_of(workflow)
        if _row(definition, "") is None:
            rows.append(publish(workflow, by=SYSTEM))
    return rows
