"""One attempt of a machine step, by the promise of its mode.

``transactional``: body and completion in one transaction. ``at_least_once`` and ``at_most_once``: the
claim is committed, the body runs with neither lock nor transaction, the completion is committed if
the attempt is still the current one. They differ in what recovery does with a claim that nobody
completes: repeat it, or ask a person.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.models.functions import Now

from django_workflows.conf import settings
from django_workflows.core.commands import CompleteStep, ReportStep, StartStep, StopStep
from django_workflows.core.definition import Definition
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.exceptions import CancellationError, NotFound, StaleAttempt, StepTimeout, TransitionNotAllowed
from django_workflows.models import StepExecution, WorkflowInstance
from django_workflows.states import InstanceStatus, StepStatus

from .bodies import alarm_after, call_body, failed, machine_step, succeeded
from .database import alias
from .executors import executor
from .failpoints import reach
from .heartbeat import Pulse, beating, renew_every
from .limits import time_limit
from .loader import definition_for, snapshot_of
from .locking import lock
from .reporting import Reporter, Superseded
from .runner import advance, handle

logger = logging.getLogger("django_workflows.jobs")

#: What the database raises when it was not the statement that was wrong.
OUT_OF_REACH = (OperationalError, InterfaceError)


def run_step(instance_id: str, key: str, attempt: int, *, is_repeat: bool = False) -> None:
    """Take up one attempt. ``is_repeat`` tells that an earlier message came to nothing."""
    try:
        claimed = claim(instance_id, key, attempt, is_repeat=is_repeat)
    except _BodyFailed as failure:
        _persist(partial(_fail, instance_id, key, attempt, failure.error, failure.reports))
        return
    if claimed is None:
        return
    reach("F1", key)
    if machine_step(claimed.definition, claimed.token).mode == "transactional":
        call_inside(claimed)
    else:
        call_outside(claimed)


class _BodyFailed(Exception):
    """Carries what a transactional body raised out of its transaction, so that it is rolled back."""

    def __init__(self, error: BaseException, reports: list[dict[str, Any]]) -> None:
        super().__init__()
        self.error, self.reports = error, reports


class Claimed:
    """A claim that is committed: the rows as they were, and whose sign of life it needs."""

    def __init__(self, row: WorkflowInstance, definition: Definition, snapshot: Snapshot, key: str) -> None:
        self.row, self.definition, self.snapshot = row, definition, snapshot
        self.token: Token = snapshot.tokens[key]

    def renew(self) -> bool:
        """Put the end of the lease off; false if the attempt is no longer ours."""
        mine = StepExecution.objects.using(alias()).filter(
            pk=self.row.state["ids"][self.token.key], attempt=self.token.attempt, status=StepStatus.RUNNING
        )
        return bool(mine.update(lease_until=lease_end()))

    def pulse(self, reporter: Reporter) -> Pulse:
        now, limit = time.monotonic(), machine_step(self.definition, self.token).seconds
        expires = float("inf") if limit is None else now + limit + float(settings.TIMEOUT_GRACE_SECONDS)
        return Pulse(
            renew=self.renew,
            reporter=reporter,
            renew_at=now + renew_every(),
            expires_at=expires,
            expire=partial(_give_up_worker, self, limit),
        )


def lease_end() -> Any:
    """The claim lasts until a moment on the database's clock, whatever this machine's says."""
    return Now() + timedelta(seconds=settings.LEASE_SECONDS)


def claim(instance_id: str, key: str, attempt: int, *, is_repeat: bool = False) -> Claimed | None:
    """Claim the attempt; a transactional step that never came to grief is done here and now.

    Its claim would only count the workers it costs, and is committed from the second time on.
    """
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        definition, snapshot = definition_for(row.definition_id), snapshot_of(row)
        token = _waiting_token(snapshot, key, attempt)
        step = machine_step(definition, token)
        if step.mode == "transactional" and not (is_repeat or token.interruptions or step.timeout):
            reach("F1", key)
            _transact(row, definition, snapshot, token)
            return None
        advance(row, StartStep(key=key, attempt=attempt, worker=worker_name()))
        ours = StepExecution.objects.using(alias()).filter(pk=row.state["ids"][key])
        ours.update(lease_until=lease_end())
        reach("F0", key)
        return Claimed(row, definition, snapshot_of(row), key)


def _waiting_token(snapshot: Snapshot, key: str, attempt: int) -> Token:
    token = snapshot.tokens.get(key)
    live = snapshot.status in (InstanceStatus.RUNNING, InstanceStatus.WAITING) and not snapshot.canceling
    if token is None or token.attempt != attempt or token.status != StepStatus.SCHEDULED or not live:
        raise _stale(snapshot, key, attempt, "does not wait to be run")
    return token


def _stale(snapshot: Snapshot, key: str, attempt: int, what: str) -> StaleAttempt:
    return StaleAttempt(f"Attempt {attempt} of {key} {what}.", status=snapshot.status, key=key, attempt=attempt)


def _transact(row: WorkflowInstance, definition: Definition, snapshot: Snapshot, token: Token) -> None:
    """Body and completion, in the transaction that is open."""
    reporter = Reporter()
    try:
        with time_limit(alarm_after(machine_step(definition, token))):
            done = call_body(row, definition, snapshot, token, reporter)
            succeeded(row, definition, snapshot, token, done)
    except BaseException as error:
        raise _BodyFailed(error, reporter.close()) from error
    reach("F2", token.key)
    advance(row, replace(done, reports=reporter.close()))
    reach("F3", token.key)


def call_inside(claimed: Claimed) -> None:
    """A transactional body whose claim is committed already, so that its deaths can be counted."""
    token = claimed.token
    try:
        with beating(claimed.pulse(Reporter())), transaction.atomic(using=alias()):
            row = lock(claimed.row.pk)
            snapshot = snapshot_of(row)
            _transact(row, claimed.definition, snapshot, _current(snapshot, token))
    except _BodyFailed as failure:
        _persist(partial(_fail, str(claimed.row.pk), token.key, token.attempt, failure.error, failure.reports))


def _current(snapshot: Snapshot, token: Token) -> Token:
    """The token as it is now, if the attempt is still ours."""
    now = snapshot.tokens.get(token.key)
    if now is None or now.attempt != token.attempt or now.status != StepStatus.RUNNING:
        raise _stale(snapshot, token.key, token.attempt, "was taken over")
    return now


def call_outside(claimed: Claimed) -> None:
    """Neither lock nor transaction is held while the body runs."""
    row, token = claimed.row, claimed.token
    reporter = Reporter(partial(_report, row.pk, token))
    try:
        limit = alarm_after(machine_step(claimed.definition, token))
        with beating(claimed.pulse(reporter)), time_limit(limit):
            done = call_body(row, claimed.definition, claimed.snapshot, token, reporter)
    except Superseded:
        logger.info("Attempt %s of %s was taken over while its body ran.", token.attempt, token.key)
        return
    except BaseException as error:  # noqa: BLE001 - user code; the worker lives on
        reports = reporter.close()
        _persist(partial(_fail, str(row.pk), token.key, token.attempt, error, reports))
        return
    reach("F2", token.key)
    done = replace(done, reports=reporter.close())
    try:
        _persist(partial(_complete, row.pk, token, done))
    except _BodyFailed as failure:
        _persist(partial(_fail, str(row.pk), token.key, token.attempt, failure.error, failure.reports))


def _persist(write: Callable[[], None]) -> None:
    """Tell the database what came of the body, again and again while it is out of reach and the lease lasts.

    A write that arrived although its answer got lost is refused the second time, by the fence.
    """
    until, pause = time.monotonic() + float(settings.LEASE_SECONDS), 0.05
    while True:
        try:
            return write()
        except OUT_OF_REACH:
            if time.monotonic() + pause > until or connections[alias()].in_atomic_block:
                raise
            logger.warning("The database is out of reach; the result is kept and written again.", exc_info=True)
        connections[alias()].close()
        time.sleep(pause)
        pause = min(pause * 2, 2.0)


def _report(instance_id: Any, token: Token, reports: list[dict[str, Any]]) -> None:
    try:
        handle(instance_id, ReportStep(key=token.key, attempt=token.attempt, reports=tuple(reports)))
    except (TransitionNotAllowed, NotFound) as error:
        raise Superseded from error


def _complete(instance_id: Any, token: Token, done: CompleteStep) -> None:
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        snapshot = snapshot_of(row)
        current = snapshot.tokens.get(token.key)
        if current is not None and current.attempt == token.attempt:
            try:
                succeeded(row, definition_for(row.definition_id), snapshot, current, done)
            except BaseException as error:  # user code as well, whose errors are its own
                raise _BodyFailed(error, [dict(report) for report in done.reports]) from error
        advance(row, done)
        reach("F3", token.key)


def _fail(
    instance_id: str, key: str, attempt: int, error: BaseException, reports: list[dict[str, Any]] | None = None
) -> None:
    with transaction.atomic(using=alias()):
        row = lock(instance_id)
        definition, snapshot = definition_for(row.definition_id), snapshot_of(row)
        token = snapshot.tokens.get(key)
        if token is None or token.attempt != attempt:
            raise _stale(snapshot, key, attempt, "failed, but is no longer the current one")
        if isinstance(error, CancellationError) and snapshot.canceling:
            advance(row, StopStep(key=key, attempt=attempt, reports=tuple(reports or ())))
            return
        command = failed(row, definition, snapshot, token, error)
        advance(row, replace(command, reports=tuple(reports or ())))


def _give_up_worker(claimed: Claimed, limit: float | None) -> None:
    """The body hangs where no alarm reaches it: note that, and let its process die, if it is a worker's.

    The cluster puts another worker in its place.
    """
    token = claimed.token
    if not executor().may_kill_workers or multiprocessing.parent_process() is None:
        logger.error("%s of instance %s hangs and cannot be stopped in this process.", token.key, claimed.row.pk)
        return
    logger.error("%s of instance %s hangs; its worker is killed.", token.key, claimed.row.pk)
    try:
        if machine_step(claimed.definition, token).mode != "transactional":  # whose lock we would wait for
            _fail(str(claimed.row.pk), token.key, token.attempt, StepTimeout(limit or 0.0))
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def worker_name() -> str:
    """Where this attempt runs, for people who look for it."""
    return f"{socket.gethostname()}:{os.getpid()}"
