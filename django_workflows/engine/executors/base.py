"""The port to the queue: what a job is, and what an executor must do with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from django.utils.module_loading import import_string

#: What a worker calls; named by its path, as queues want it.
TICK = "django_workflows.engine.jobs.tick"
RUN = "django_workflows.engine.jobs.run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A call waiting in the queue. It carries keys only; the truth is in the rows."""

    kind: str
    instance_id: str
    key: str = ""
    attempt: int = 0

    def run(self) -> None:
        import_string(RUN)(self.kind, self.instance_id, self.key, self.attempt)


class Executor(ABC):
    """Gets jobs to a worker. A job may be lost (recovery finds its row) or come twice (the second finds nothing)."""

    #: Whether a worker that hangs may be killed, because it is a process that is replaced by another.
    may_kill_workers: bool = False

    def install(self) -> None:  # noqa: B027 - most executors need nothing
        """Called after ``migrate``: set up whatever looks at the agenda from time to time."""

    def is_behind(self) -> bool:
        """Whether messages wait that no worker has taken yet: what waits with them is not lost."""
        return False

    def is_stalled(self, seconds: float) -> bool:
        """Whether messages have waited that long and none was taken in that time; ``False`` where that
        cannot be told."""
        return False

    def is_empty(self) -> bool:
        """Whether the queue surely holds no message, neither waiting nor in a worker's hands: what is
        scheduled all the same has lost its own. ``False`` where that cannot be told."""
        return False

    @abstractmethod
    def enqueue(self, job: Job) -> None:
        """Called within the transaction that wrote the job's row; the job must not run before it is committed."""
