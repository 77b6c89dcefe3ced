"""Deleting what has been kept long enough: the only code that deletes history.

Bounded batches, each a transaction of its own, so that a death in between leaves whole instances
only. A legal hold wins over every retention; so does a child instance that is still kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db import models, transaction

from django_workflows.conf import settings
from django_workflows.core.durations import parse_duration
from django_workflows.exceptions import DefinitionError
from django_workflows.models import (
    Decision,
    HumanTask,
    Incident,
    StepExecution,
    TaskCandidate,
    Timer,
    WorkflowDefinition,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.models.instances import ENDED, InstanceQuerySet

from . import clock
from .database import alias
from .failpoints import reach
from .loader import definition_for
from .locking import locked

logger = logging.getLogger("django_workflows.retention")

BATCH: Final = 200

#: What an instance owns, in an order in which nothing points to what is gone.
_OWNED: Final[tuple[tuple[type[models.Model], str], ...]] = (
    (Decision, "task__instance__in"),
    (TaskCandidate, "task__instance__in"),
    (HumanTask, "instance__in"),
    (Timer, "instance__in"),
    (Incident, "instance__in"),
    (StepExecution, "instance__in"),
    (WorkflowEvent, "instance__in"),
)


@dataclass(slots=True, kw_only=True)
class Pruned:
    """``deleted`` (or, in a dry run, what would be), ``protected`` by rows of the project that point to them."""

    deleted: int = 0
    protected: int = 0
    batches: int = 0


def prune(
    *,
    older_than: timedelta | None = None,
    workflow: str = "",
    batch: int = BATCH,
    max_batches: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete instances that ended longer ago than their definition's ``retention``, the setting
    ``WORKFLOWS_RETENTION``, or ``older_than``, which takes the place of both."""
    report = Pruned()
    definitions = WorkflowDefinition.objects.using(alias()).only("pk").order_by("pk")
    for row in definitions.filter(name=workflow) if workflow else definitions:
        keep = older_than if older_than is not None else retention_of(row)
        if keep is None:
            continue
        due = expired(row, keep)
        if dry_run:
            report.deleted += due.count()
            continue
        for keys in _batches(due, batch):
            if max_batches is not None and report.batches >= max_batches:
                return report
            _delete_batch(keys, report)
    return report


def retention_of(row: WorkflowDefinition) -> timedelta | None:
    """How long ended instances of a definition are kept; ``None`` for ever."""
    try:
        text = definition_for(row.pk).retention
    except DefinitionError:  # its code is gone; what the project says for all still holds
        text = ""
    text = text or settings.RETENTION
    return parse_duration(text) if text else None


def expired(row: WorkflowDefinition, keep: timedelta) -> InstanceQuerySet:
    """The instances of a definition that may go."""
    rows = WorkflowInstance.objects.using(alias()).filter(definition=row, status__in=ENDED, legal_hold=False)
    return rows.filter(completed_at__lt=clock.present() - keep, children=None)


def _batches(due: InstanceQuerySet, size: int) -> Iterator[list[UUID]]:
    last: UUID | None = None
    while True:
        rest = due if last is None else due.filter(pk__gt=last)
        keys = list(rest.order_by("pk").values_list("pk", flat=True)[:size])
        if keys:
            yield keys
        if len(keys) < size:
            return
        last = keys[-1]


def _delete_batch(keys: list[UUID], report: Pruned) -> None:
    report.batches += 1
    try:
        report.deleted += _delete(keys)
    except models.ProtectedError:
        for key in keys:
            try:
                report.deleted += _delete([key])
            except models.ProtectedError:
                report.protected += 1
    logger.info("Deleted %s instances so far, %s are protected.", report.deleted, report.protected)


def _delete(keys: list[UUID]) -> int:
    """Delete these instances with all they own, if they may still go under the lock."""
    with transaction.atomic(using=alias()):
        rows = locked(skip=True).filter(pk__in=keys, status__in=ENDED, legal_hold=False, children=None)
        mine = [row.pk for row in rows.order_by("pk")]
        for model, owner in _OWNED:
            found: Any = model._default_manager.using(alias()).filter(**{owner: mine})
            found.delete()
        reach("F10", ",".join(map(str, mine[:1])))
        WorkflowInstance.objects.using(alias()).filter(pk__in=mine).delete()
        return len(mine)
