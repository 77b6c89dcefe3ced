"""Taking a person's name out of what has ended, and leaving the history whole.

A pseudonym takes the place of the name wherever the engine wrote it: in the columns beside the foreign
keys, in the payloads of events and in the results of steps. The lines, their numbers and their order
stay, and folding them still gives what is stored. The project's own data (``data``, forms) is the
project's to judge, and is not searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from django_workflows.models import (
    Decision,
    HumanTask,
    Incident,
    StepExecution,
    TaskCandidate,
    WorkflowDefinition,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.models.instances import ENDED, InstanceQuerySet

from .database import alias
from .locking import lock

#: Parts of payloads and results that hold what people and steps have said, not what the engine wrote.
_SAID: Final = frozenset({"data", "changes", "form", "output", "comment", "text", "metadata"})

#: Model, the column with the name, and the foreign key beside it.
_NAMES: Final[tuple[tuple[Any, str, str], ...]] = (
    (StepExecution, "completed_by_name", "completed_by"),
    (StepExecution, "assigned_to_name", ""),
    (HumanTask, "assignee_name", "assignee"),
    (HumanTask, "completed_by_name", "completed_by"),
    (Incident, "resolved_by_name", "resolved_by"),
)


def instances_of(user: Any, name: str) -> InstanceQuerySet:
    """Every instance in which the person has started, decided, held or done anything, or might have."""
    found = Q(initiator=user) | Q(initiator_name=name)
    for model, path in (
        (WorkflowEvent.objects.filter(Q(actor=user) | Q(on_behalf_of_name=name)), "instance"),
        (TaskCandidate.objects.filter(user=user), "task__instance"),
        (HumanTask.objects.filter(assignee=user), "instance"),
        (Decision.objects.filter(actor=user), "task__instance"),
    ):
        found |= Q(pk__in=model.values(path))
    return WorkflowInstance.objects.using(alias()).filter(found)


def pseudonymize(user: Any, name: str, pseudonym: str) -> tuple[int, int]:
    """Returns how many instances were changed, and how many live ones were left as they are."""
    rows = instances_of(user, name)
    ended = list(rows.filter(status__in=ENDED).values_list("pk", flat=True))
    for key in ended:
        with transaction.atomic(using=alias()):
            _in_instance(lock(key), user, name, pseudonym)
    published = WorkflowDefinition.objects.using(alias()).filter(published_by=user)
    published.update(published_by_name=pseudonym, published_by=None)
    WorkflowEvent.objects.using(alias()).filter(instance=None, actor=user).update(actor_name=pseudonym, actor=None)
    return len(ended), rows.exclude(status__in=ENDED).count()


def _in_instance(row: WorkflowInstance, user: Any, name: str, pseudonym: str) -> None:
    results = _replaced(row.results, name, pseudonym)
    fields: dict[str, Any] = {"results": results} if results != row.results else {}
    if row.initiator_id == user.pk or row.initiator_name == name:
        fields |= {"initiator_name": pseudonym, "initiator": None}
    if fields:
        WorkflowInstance.objects.using(alias()).filter(pk=row.pk).update(**fields)
    for model, column, key in _NAMES:
        rows = model.objects.using(alias()).filter(instance=row, **{column: name})
        rows.update(**{column: pseudonym}, **({key: None} if key else {}))
    for task in HumanTask.objects.using(alias()).filter(instance=row):
        resolution = _replaced(task.resolution, name, pseudonym, str(user.pk))
        if resolution != task.resolution:
            HumanTask.objects.using(alias()).filter(pk=task.pk).update(resolution=resolution)
    decisions = Decision.objects.using(alias()).filter(task__instance=row)
    decisions.filter(actor=user).update(actor_name=pseudonym, actor=None)
    decisions.filter(on_behalf_of_name=name).update(on_behalf_of_name=pseudonym)
    TaskCandidate.objects.using(alias()).filter(task__instance=row, user=user).delete()
    _in_history(row, user, name, pseudonym)


def _in_history(row: WorkflowInstance, user: Any, name: str, pseudonym: str) -> None:
    for line in WorkflowEvent.objects.using(alias()).filter(instance=row):
        fields: dict[str, Any] = {}
        payload = _replaced(line.payload, name, pseudonym, str(user.pk))
        if payload != line.payload:
            fields["payload"] = payload
        if line.actor_id == user.pk:
            fields |= {"actor": None, "actor_name": pseudonym}
        if line.on_behalf_of_name == name:
            fields["on_behalf_of_name"] = pseudonym
        if fields:
            WorkflowEvent.objects.using(alias()).filter(pk=line.pk).update(**fields)


def _replaced(value: Any, name: str, pseudonym: str, key: str = "") -> Any:
    """A copy with the name replaced where it is a whole value, and the key beside it taken out."""
    if isinstance(value, Mapping):
        found = {k: item if k in _SAID else _replaced(item, name, pseudonym, key) for k, item in value.items()}
        if key and found.get("id") == key and value.get("name") == name:
            found["id"] = ""
        return found
    if isinstance(value, list):
        return [_replaced(item, name, pseudonym, key) for item in value]
    return pseudonym if value == name else value
