"""What a worker runs. A job may come twice or late: the second time there is nothing left to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from django.db import connections

from django_workflows.exceptions import NotFound, StaleAttempt, TransitionNotAllowed

from .database import alias
from .failpoints import reach
from .incidents import report_broken
from .machine_steps import OUT_OF_REACH, run_step
from .recovery import sweep
from .retention import prune
from .timers import fire_due
from .transient import run_instance
from .watchdog import settle

logger = logging.getLogger("django_workflows.jobs")


def run(kind: str, instance_id: str, key: str = "", attempt: int = 0, *unknown: Any, **unknown_too: Any) -> None:
    """The entry point that queues call by its path. It returns nothing and lets no error out.

    Arguments that another version of the package has sent along are ignored.
    """
    job = _KINDS.get(kind)
    if job is None:
        logger.warning("A job of unknown kind %r was dropped; recovery will queue its step again.", kind)
        return
    try:
        job(instance_id, key, attempt)
    except (NotFound, StaleAttempt, TransitionNotAllowed) as refusal:
        logger.info("Job %s %s of %s came too late: %s", kind, key, instance_id, refusal)
    except OUT_OF_REACH:
        logger.exception("Job %s %s of %s lost the database; recovery takes it up.", kind, key, instance_id)
        if not connections[alias()].in_atomic_block:
            connections[alias()].close()
    except Exception as error:  # the edge of a job: the queue must not see it
        logger.exception("Job %s %s of %s failed outside of its step.", kind, key, instance_id)
        report_broken(instance_id, key, error)
    reach("F5", key)


def tick() -> None:
    """One look at the agenda and at what is lost; called by a schedule of the queue."""
    try:
        fire_due()
        sweep()
        prune(max_batches=1)
    except Exception:  # the edge of a job, as above
        logger.exception("The look at the agenda failed; the next one comes.")


def _repeat_step(instance_id: str, key: str, attempt: int) -> None:
    run_step(instance_id, key, attempt, is_repeat=True)


_KINDS: Final[dict[str, Callable[[str, str, int], None]]] = {
    "run_step": run_step,
    "repeat_step": _repeat_step,
    "run_instance": run_instance,
    "settle": settle,
}
