"""Starting instances, and what may be done to them as a whole or to their steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connections, models, transaction
from django.db.models import QuerySet

from django_workflows import registry
from django_workflows.conf import settings
from django_workflows.core import commands as c
from django_workflows.core import forms, templating
from django_workflows.core.authoring import Workflow, workflow_name
from django_workflows.core.definition import Definition
from django_workflows.core.durations import parse_duration
from django_workflows.core.snapshot import Snapshot, scope_of
from django_workflows.core.values import encode
from django_workflows.engine import clock
from django_workflows.engine.database import alias
from django_workflows.engine.loader import definition_for
from django_workflows.engine.locking import lock
from django_workflows.engine.prepared import Prepared
from django_workflows.engine.runner import advance
from django_workflows.engine.timers import postpone
from django_workflows.exceptions import (
    DefinitionNotFound,
    DuplicateInstance,
    ExpressionError,
    InvalidInput,
    LimitReached,
    NotFound,
    PayloadTooLarge,
)
from django_workflows.models import StepExecution, WorkflowDefinition, WorkflowInstance
from django_workflows.models.keys import user_key
from django_workflows.permissions import policy

from .authority import actor_of, refuse
from .definitions import publish

Startable = type[Workflow] | WorkflowDefinition | str


def start(
    workflow: Startable,
    *,
    by: Any,
    data: Mapping[str, Any] | None = None,
    version: str = "",
    subject: models.Model | None = None,
    business_key: str = "",
    idempotency_key: str = "",
    metadata: Mapping[str, Any] | None = None,
    tenant: str = "",
    parent: WorkflowInstance | None = None,
) -> WorkflowInstance:
    """Start an instance of a workflow (a name, a class, or a definition row): of the newest active
    version, unless one is named. Returns it as it stands when every step that can run at once has run.

    The same ``idempotency_key`` gives the same instance. Raises ``DefinitionNotFound``,
    ``NotAuthorized``, ``InvalidForm`` for data against the definition's schema, ``InvalidValue``,
    ``PayloadTooLarge`` (also for a ``parent`` that is nested too deeply), or ``DuplicateInstance`` if
    the business key is taken, or ``LimitReached`` if ``max_active`` instances live already.
    """
    actor = actor_of(by)
    found = _startable(workflow, version, tenant)
    definition = definition_for(found.pk)
    if not actor.is_system and not policy().may_start(by, found, definition.start):
        raise refuse(actor, f"start {found.name}", needs="the right to start it")
    content = _start_data(definition, data)
    row = _new_row(found, definition, actor, content, metadata or {}, tenant=tenant)
    row.business_key, row.idempotency_key, row.parent = _key(business_key), _key(idempotency_key), parent
    _check_nesting(parent)
    if subject is not None:
        row.subject_type, row.subject_id = ContentType.objects.get_for_model(subject), str(subject.pk)
    if row.business_key or row.idempotency_key:
        return _start_once(row, actor, content)
    return _begin(row, actor, content)


def _startable(workflow: Startable, version: str, tenant: str) -> WorkflowDefinition:
    if isinstance(workflow, WorkflowDefinition):
        return _checked(workflow)
    name = workflow if isinstance(workflow, str) else workflow_name(workflow)
    if not isinstance(workflow, str):
        version = version or str(getattr(workflow, "version", "1"))
    row = (
        _NEWEST.first(name=name, tenant=tenant)
        if not version
        else _NAMED.first(name=name, tenant=tenant, version=version)
    )
    if row is not None:
        return row
    if registry.has(name, version or None) and not _known(name, version, tenant):
        return publish(registry.get(name, version or None), by=c.SYSTEM, tenant=tenant)
    raise DefinitionNotFound(
        f"No active version of {name!r} can be started{f' as {version}' if version else ''}.",
        name=name,
        version=version,
    )


def _of_name(name: str, tenant: str) -> QuerySet[WorkflowDefinition]:
    rows = WorkflowDefinition.objects.startable(name).filter(tenant=tenant)
    return rows.defer("content").annotate(db_now=clock.DatabaseClock())


def _field(name: str) -> Any:
    return lambda: WorkflowDefinition._meta.get_field(name)


_NEWEST = Prepared(lambda name, tenant: _of_name(name, tenant)[:1], name=_field("name"), tenant=_field("tenant"))
_NAMED = Prepared(
    lambda name, tenant, version: _of_name(name, tenant).filter(version=version)[:1],
    name=_field("name"),
    tenant=_field("tenant"),
    version=_field("version"),
)


def _known(name: str, version: str, tenant: str) -> bool:
    """Whether the version has a row already, which then is not active."""
    rows = WorkflowDefinition.objects.using(alias()).filter(name=name, tenant=tenant)
    return (rows.filter(version=version) if version else rows).exists()


def _checked(row: WorkflowDefinition) -> WorkflowDefinition:
    if row.status != "published":
        raise DefinitionNotFound(f"{row} is {row.status}; only a published version starts instances.", name=row.name)
    return row


def _start_data(definition: Definition, data: Mapping[str, Any] | None) -> dict[str, Any]:
    if data is not None and not isinstance(data, Mapping):
        raise InvalidInput(f"Start data is an object, not {type(data).__name__}.")
    content: dict[str, Any] = encode(dict(data or {}), max_bytes=settings.MAX_PAYLOAD_BYTES)
    return content if definition.data_schema is None else forms.clean(definition.data_schema, content)


def _check_nesting(parent: WorkflowInstance | None) -> None:
    depth, above = 0, parent
    while above is not None:
        depth += 1
        if depth > settings.MAX_NESTING:
            raise PayloadTooLarge(
                f"Instances may be nested {settings.MAX_NESTING} deep, not deeper.", limit=settings.MAX_NESTING
            )
        above = above.parent


def _key(text: str) -> str:
    if not isinstance(text, str) or len(text) > 200 or "\x00" in text:
        raise InvalidInput(f"A key is a text of at most 200 characters, not {text!r:.80}.")
    return text


def _new_row(
    found: WorkflowDefinition,
    definition: Definition,
    actor: c.Actor,
    content: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    tenant: str,
) -> WorkflowInstance:
    now = clock.of(found)
    row = WorkflowInstance(
        tenant=tenant,
        definition_id=found.pk,
        workflow=found.name,
        data=content,
        metadata=encode(dict(metadata), max_bytes=settings.MAX_PAYLOAD_BYTES),
        initiator_id=user_key(actor),
        initiator_name=actor.name,
        started_at=now,
        updated_at=now,
    )
    row.is_durable = definition.durable
    row.state = {"version": definition.version}
    row.db_now = now  # type: ignore[attr-defined]
    return row


def _start_once(row: WorkflowInstance, actor: c.Actor, content: Mapping[str, Any]) -> WorkflowInstance:
    """The unique keys decide, also between two who start at the same moment."""
    try:
        with transaction.atomic(using=alias()):
            return _begin(row, actor, content)
    except (IntegrityError, LimitReached) as refusal:
        same = WorkflowInstance.objects.using(alias()).filter(tenant=row.tenant, workflow=row.workflow)
        if row.idempotency_key and (first := same.filter(idempotency_key=row.idempotency_key).first()):
            return first
        if isinstance(refusal, LimitReached):
            raise
        taken = same.filter(business_key=row.business_key).first() if row.business_key else None
        if taken is None:
            raise
        raise DuplicateInstance(
            f"{row.workflow} {row.business_key!r} exists already.",
            business_key=row.business_key,
            instance_id=str(taken.pk),
        ) from None


def _begin(row: WorkflowInstance, actor: c.Actor, content: Mapping[str, Any]) -> WorkflowInstance:
    definition = definition_for(row.definition_id)
    about = _about(row, definition)
    row.title = _title(definition, about, content)
    with transaction.atomic(using=alias()):
        _check_active(row, definition)
        return advance(row, c.Start(by=actor, data=content, about={**about, "title": row.title}), is_new=True)


def _check_active(row: WorkflowInstance, definition: Definition) -> None:
    """Whether one more may live; the definition's row is locked, so that two cannot both be the last."""
    if not definition.max_active:
        return
    WorkflowDefinition.objects.using(alias()).select_for_update().filter(pk=row.definition_id).first()
    live = WorkflowInstance.objects.using(alias()).filter(workflow=row.workflow, tenant=row.tenant).running()
    if live.count() >= definition.max_active:
        raise LimitReached(
            f"{definition.max_active} instances of {row.workflow} live already, which is as many as it allows.",
            limit=definition.max_active,
        )


def _about(row: WorkflowInstance, definition: Definition) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "workflow": row.workflow,
        "version": definition.version,
        "business_key": row.business_key,
        "title": "",
        "initiator": row.initiator_name,
        "tenant": row.tenant,
        "metadata": row.metadata,
    }


def _title(definition: Definition, about: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """What people call the instance; a title that cannot be made is no reason to refuse the start."""
    if not definition.instance_title:
        return ""
    snapshot = Snapshot(about={**about, "started_at": ""}, data=content)
    try:
        return templating.render(definition.instance_title, scope_of(snapshot, clock.now()))[:200]
    except ExpressionError:
        return definition.label[:200]


# verbs on an instance

Instance = WorkflowInstance | UUID | str


def key_of(instance: Any) -> Any:
    return instance.pk if isinstance(instance, models.Model) else instance


def _move(instance: Instance, command: c.Command, by: Any, verb: str) -> WorkflowInstance:
    actor = command.by
    with transaction.atomic(using=alias()):
        row = lock(key_of(instance))
        if not actor.is_system and not policy().may_administer(by, row):
            raise refuse(actor, f"{verb} instance {row}", needs="the right to administer the workflow")
        return advance(row, command)


def cancel(
    instance: Instance,
    *,
    by: Any,
    reason: str = "",
    wait: float | str | timedelta | None = None,
    force: bool = False,
) -> WorkflowInstance:
    """End it, with every open task, timer and step. The initiator may, and an administrator.

    A step that a worker has in hand ends first, or stops at ``ctx.check_cancellation()``; until then
    ``cancel_requested_at`` tells that the instance is being canceled. ``force`` closes such a step at
    once; what its body still does is not recorded. ``wait`` (seconds, or a duration) waits so long for
    the end, and returns the instance as it is then. Asking once more changes nothing.

    Raises ``NotFound``, ``NotAuthorized``, ``TransitionNotAllowed`` if it has ended, ``InvalidValue``
    for a wrong ``wait``, or ``InvalidInput`` if waiting inside a transaction would be in vain.
    """
    actor = actor_of(by)
    patience = None if wait is None else parse_duration(wait).total_seconds()
    with transaction.atomic(using=alias()):
        row = lock(key_of(instance))
        if not actor.is_system and not policy().may_cancel(by, row):
            raise refuse(actor, f"cancel instance {row}", needs="the right to administer the workflow")
        if row.cancel_requested_at is None or row.is_ended or force:
            row = advance(row, c.Cancel(by=actor, reason=encoded(reason), force=force))
    return row if patience is None or row.is_ended else _end_of(row, patience)


#: Seconds between two looks at an instance whose end is waited for.
LOOK_EVERY = 0.1


def _end_of(row: WorkflowInstance, patience: float) -> WorkflowInstance:
    """The instance when it has ended, or when patience has."""
    if connections[alias()].in_atomic_block:
        raise InvalidInput("Inside a transaction nobody can see the request; wait after its commit.", field="wait")
    until = time.monotonic() + patience
    while not row.is_ended and time.monotonic() < until:
        time.sleep(LOOK_EVERY)
        row.refresh_from_db(using=alias())
    return row


def hold(instance: Instance, *, by: Any, reason: str) -> WorkflowInstance:
    """Put it under legal hold: whatever the retention says, it is not deleted. Takes an administrator."""
    actor = actor_of(by)
    return _move(instance, c.SetHold(by=actor, reason=reason_of(reason)), by, "hold")


def lift_hold(instance: Instance, *, by: Any, reason: str) -> WorkflowInstance:
    """Let the retention apply again. Takes an administrator."""
    actor = actor_of(by)
    return _move(instance, c.LiftHold(by=actor, reason=reason_of(reason)), by, "lift the hold of")


def reason_of(text: str) -> str:
    """A reason that may be stored; raises ``InvalidInput`` for none."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("This needs a reason.", field="reason")
    found: str = encoded(text)
    return found


def data_of(data: Any) -> dict[str, Any]:
    """Keys of the data to set, as JSON; raises ``InvalidInput`` for what is no object."""
    if data is not None and not isinstance(data, Mapping):
        raise InvalidInput(f"Data is an object, not {type(data).__name__}.", field="data")
    found: dict[str, Any] = encoded(dict(data or {}))
    return found


def encoded(value: Any) -> Any:
    """A value from outside, as JSON within the size limit."""
    return encode(value, max_bytes=settings.MAX_PAYLOAD_BYTES)


def pause(instance: Instance, *, by: Any, reason: str = "") -> WorkflowInstance:
    """Start no new step and fire no timer until it is resumed; a step at work ends."""
    return _move(instance, c.Pause(by=actor_of(by), reason=reason), by, "pause")


def resume(instance: Instance, *, by: Any, reason: str = "") -> WorkflowInstance:
    """Go on after a pause; timers are put off by as long as it lasted."""
    actor = actor_of(by)
    with transaction.atomic(using=alias()):
        row = lock(key_of(instance))
        if not actor.is_system and not policy().may_administer(by, row):
            raise refuse(actor, f"resume instance {row}", needs="the right to administer the workflow")
        paused_at = row.paused_at
        row = advance(row, c.Resume(by=actor, reason=reason))
        if paused_at is not None:
            postpone(row, clock.of(row) - paused_at)
        return row


def fail(instance: Instance, *, by: Any, reason: str) -> WorkflowInstance:
    """End it as failed, as the way out of an incident that cannot be mended."""
    command = c.FailInstance(by=actor_of(by), error=reason, error_type="FailedByHand")
    return _move(instance, command, by, "fail")


Execution = StepExecution | UUID | str


def _execution(execution: Execution) -> StepExecution:
    row = StepExecution.objects.using(alias()).filter(pk=key_of(execution)).first()
    if row is None:
        raise NotFound(f"There is no step execution {execution}.", execution_id=str(execution))
    return row


def retry_step(execution: Execution, *, by: Any, data: Mapping[str, Any] | None = None) -> WorkflowInstance:
    """Try a failed step again, after setting ``data`` (keys of the instance's data), if any is given."""
    row = _execution(execution)
    changes = data_of(data)
    command = c.RetryStep(by=actor_of(by), key=row.key, changes=changes)
    return _move(row.instance_id, command, by, f"retry {row.step} of")


def skip_step(execution: Execution, *, by: Any, reason: str, outcome: str = "", output: Any = None) -> WorkflowInstance:
    """Pass by a step that waits or has failed, as if it had ended with the outcome and output given."""
    row = _execution(execution)
    text = reason_of(reason)
    command = c.SkipStep(
        by=actor_of(by),
        key=row.key,
        reason=text,
        outcome=outcome,
        output=encoded(output),
    )
    return _move(row.instance_id, command, by, f"skip {row.step} of")
