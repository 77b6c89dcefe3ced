"""What a worker runs. A job may come twice or late: the second time there is nothing left to do."""

from __future__ import annotations

import logging
import os
import socket
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from django_workflows.conf import settings
from django_workflows.core.commands import Command, CompleteStep, ReportStep, StartStep
from django_workflows.core.definition import Definition
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.exceptions import NotFound, StaleAttempt, TransitionNotAllowed
from django_workflows.models import StepExecution, WorkflowInstance
from django_workflows.states import InstanceStatus, StepStatus

from .bodies import call_body, failed, machine_step, succeeded
from .database import alias
from .loader import definition_for, snapshot_of
from .locking import lock
from .recovery import sweep
from .runner import advance, handle
from .timers import fire_due

logger = logging.getLogger("django_workflows.jobs")


def run(kind: str, instance_id: str, key: str = "", attempt: int = 0) -> None:
    """The entry point that queues call by its path. It returns nothing and lets no error out."""
    try:
        _KINDS[kind](instance_id, key, attempt)
    except KeyError:
        logger.warning("A job of unknown kind %r was dropped; recovery will queue its step again.", kind)
    except (NotFound, StaleAttempt, TransitionNotAllowed) as refusal:
        logger.info("Job %s %s of %s came too late: %s", kind, key, instance_id, refusal)
    except Exception:  # the edge of a job: the queue must not see it, recovery takes it up again
        logger.exception("Job %s %s of %s failed outside of its step.", kind, key, instance_id)


def tick() -> None:
    """One look at the agenda and at what is lost; called by a schedule of the queue."""
    try:
        fire_due()
        sweep()
    except Exception:  # the edge of a job, as above
        logger.exception("The look at the agenda failed; the next one comes.")


def run_step(instance_id: str, key: str, attempt: int) -> None:
    """Take up one attempt of a machine step, by the promise of its mode."""
    try:
        claimed = _begin(instance_id, key, attempt)
    except _BodyFailed as failure:
        _fail(instance_id, key, attempt, failure.error)
        return
    if claimed is not None:
        _call_outside(*claimed)


class _BodyFailed(Exception):
    """Carries what a transactional body raised out of its transaction, so that it is rolled back."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


Claimed = tuple[WorkflowInstance, Definition, Snapshot, Token]


def _begin(instance_id: str, key: str, attempt: int) -> Claimed | None:
    """A transactional step is done here and now; of another one the attempt is claimed."""
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        definition, snapshot = definition_for(row.definition_id), snapshot_of(row)
        token = _waiting_token(snapshot, key, attempt)
        if machine_step(definition, token).mode == "transactional":
            advance(row, _transactional(row, definition, snapshot, token))
            return None
        advance(row, StartStep(key=key, attempt=attempt, worker=worker_name()))
        _lease(row, key)
        snapshot = snapshot_of(row)
        return row, definition, snapshot, snapshot.tokens[key]


def _waiting_token(snapshot: Snapshot, key: str, attempt: int) -> Token:
    token = snapshot.tokens.get(key)
    live = snapshot.status in (InstanceStatus.RUNNING, InstanceStatus.WAITING)
    if token is None or token.attempt != attempt or token.status != StepStatus.SCHEDULED or not live:
        raise StaleAttempt(
            f"Attempt {attempt} of {key} does not wait to be run.",
            status=snapshot.status,
            key=key,
            attempt=attempt,
        )
    return token


def _transactional(row: WorkflowInstance, definition: Definition, snapshot: Snapshot, token: Token) -> Command:
    try:
        done = call_body(row, definition, snapshot, token)
        succeeded(row, definition, snapshot, token, done)
    except Exception as error:
        raise _BodyFailed(error) from error
    return done


def _lease(row: WorkflowInstance, key: str) -> None:
    """The claim lasts until a moment on the database's clock, whatever this machine's says."""
    until = Now() + timedelta(seconds=settings.LEASE_SECONDS)
    StepExecution.objects.using(alias()).filter(pk=row.state["ids"][key]).update(lease_until=until)


def _call_outside(row: WorkflowInstance, definition: Definition, snapshot: Snapshot, token: Token) -> None:
    """Neither lock nor transaction is held while the body runs."""
    report = partial(_report, row.pk, token)
    try:
        done = call_body(row, definition, snapshot, token, report)
        _complete(row.pk, token, done)
    except (StaleAttempt, NotFound):
        raise
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - user code; the worker lives on
        _fail(str(row.pk), token.key, token.attempt, error)


def _report(instance_id: Any, token: Token, report: dict[str, Any]) -> None:
    handle(instance_id, ReportStep(key=token.key, attempt=token.attempt, report=report))


def _complete(instance_id: Any, token: Token, done: CompleteStep) -> None:
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        snapshot = snapshot_of(row)
        current = snapshot.tokens.get(token.key)
        if current is not None and current.attempt == token.attempt:
            succeeded(row, definition_for(row.definition_id), snapshot, current, done)
        advance(row, done)


def _fail(instance_id: str, key: str, attempt: int, error: BaseException) -> None:
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        definition, snapshot = definition_for(row.definition_id), snapshot_of(row)
        token = snapshot.tokens.get(key)
        if token is None or token.attempt != attempt:
            raise StaleAttempt(
                f"Attempt {attempt} of {key} failed, but is no longer the current one.",
                status=snapshot.status,
                key=key,
                attempt=attempt,
            )
        advance(row, failed(row, definition, snapshot, token, error))


def worker_name() -> str:
    """Where this attempt runs, for people who look for it."""
    return f"{socket.gethostname()}:{os.getpid()}"


_KINDS = {"run_step": run_step}
