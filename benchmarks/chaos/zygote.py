"""Forks processes that are cheap to kill: Django is set up once, a fork takes some 20 ms.

Reads roles from standard input and answers each with the process id; the process leads a group of
its own, so that a cluster goes with its workers.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import django


def main() -> None:
    django.setup()
    from django.db import connections

    from benchmarks.chaos import bugs

    bugs.plant(os.environ.get("CHAOS_BUG", ""))
    connections.close_all()
    for line in sys.stdin:
        _reap()
        pid = os.fork()
        if pid == 0:
            _child(ROLES[line.strip()])
        print(pid, flush=True)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _child(role: Callable[[], None]) -> None:
    status = 0
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        random.seed()
        role()
    except BaseException:  # noqa: BLE001 - the edge of a process
        traceback.print_exc()
        status = 1
    os._exit(status)


def cluster() -> None:
    """A real django-q2 cluster."""
    from django_q.cluster import Cluster

    made: Any = Cluster()
    made.start()
    made.sentinel.join()


def ticker() -> None:
    from django.core.management import call_command

    call_command("workflows_ticker", "--interval", "0.1", "--sweep-every", "0.3")


def robot() -> None:
    """Does what people do: decides tasks, and corrects what has failed."""
    from django.contrib.auth.models import User
    from django.db import DatabaseError, close_old_connections

    from benchmarks.chaos import ledger
    from django_workflows import services
    from django_workflows.exceptions import WorkflowError
    from django_workflows.models import HumanTask, Incident

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        close_old_connections()
        try:
            person = User.objects.get(username="robot")
            for task in HumanTask.objects.inbox(person)[:20]:
                services.decide(task, "approved", by=person)
                ledger.append("decisions", key=str(task.pk))
            for incident in Incident.objects.open().filter(step="mend")[:20]:
                services.resolve(incident, "retry", by=services.SYSTEM, data={"corrected": True})
        except (DatabaseError, WorkflowError):
            time.sleep(0.2)
        time.sleep(0.02)


def pruner() -> None:
    """Deletes what has ended, of the workflow that is there for it."""
    from django.db import DatabaseError, close_old_connections

    from django_workflows import services

    while True:
        close_old_connections()
        try:
            services.prune(by=services.SYSTEM, older_than="0s", workflow="chaos-at-least-once", batch=5)
        except DatabaseError:
            time.sleep(0.2)
        time.sleep(0.05)


ROLES = {"cluster": cluster, "ticker": ticker, "robot": robot, "pruner": pruner}

if __name__ == "__main__":
    main()
