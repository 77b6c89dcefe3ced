"""django-q2 as the queue: the only file that imports it.

With the ORM broker on our database the message is a row of the same transaction. With any other
broker it is sent after the commit, and recovery makes good for those that are lost.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connections, router, transaction
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import Schedule
from django_q.tasks import async_task

from django_workflows.engine.database import alias

from .base import RUN, TICK, Executor, Job


class DjangoQExecutor(Executor):
    """Wakes a django-q2 cluster. Its own retries, hooks and result rows are not used."""

    may_kill_workers = True

    def enqueue(self, job: Job) -> None:
        broker = get_broker()

        def send() -> None:
            _send(job, broker)

        if _commits_with_us(broker):
            send()
        else:
            transaction.on_commit(send, using=alias(), robust=True)

    def is_behind(self) -> bool:
        return bool(get_broker().queue_size())

    def is_stalled(self, seconds: float) -> bool:
        """Whoever takes a message puts its ``lock`` off by ``retry`` seconds; what waits has that of its arrival."""
        broker, past = get_broker(), timezone.now() - timedelta(seconds=seconds)
        if not _commits_with_us(broker):
            return False
        rows = broker.get_connection().filter(key=broker.list_key)
        taken = rows.filter(lock__gt=past + timedelta(seconds=Conf.RETRY))
        return rows.filter(lock__lt=past).exists() and not taken.exists()

    def is_empty(self) -> bool:
        """A message that commits with its step stands in the table until its job is through."""
        broker = get_broker()
        return _commits_with_us(broker) and not broker.get_connection().filter(key=broker.list_key).exists()

    def install(self) -> None:
        """A schedule of the cluster looks at the agenda every minute, should no ticker run."""
        if Schedule._meta.db_table in connections[router.db_for_write(Schedule)].introspection.table_names():
            known = {"func": TICK, "schedule_type": Schedule.MINUTES, "minutes": 1, "repeats": -1}
            Schedule.objects.get_or_create(name="django_workflows", defaults=known)


def _commits_with_us(broker: Any) -> bool:
    """Whether a message is a row of the same database as the step it is about."""
    return isinstance(broker, ORM) and alias() == Conf.ORM


def _send(job: Job, broker: Any) -> None:
    async_task(
        RUN,
        job.kind,
        job.instance_id,
        job.key,
        job.attempt,
        q_options={
            "broker": broker,
            "ack_failure": True,
            "save": False,
            "task_name": f"{job.kind} {job.key or job.instance_id}"[:100],
        },
    )
