"""The verbs: ``verb(noun, *, by=actor)``. Every write of every face goes through one of these.

Each checks authority, takes the instance lock, decides, records rows and events in one transaction,
and announces after the commit. ``by`` is a user, or ``SYSTEM``; it is never left out.
"""

from django_workflows.core.commands import SYSTEM

from .definitions import mirror, publish, reactivate, read, retire, save_draft
from .human_tasks import claim, comment, decide, reassign, release
from .incidents import resolve, resolve_all
from .instances import cancel, fail, hold, lift_hold, pause, resume, retry_step, skip_step, start
from .operations import examine, prune, pseudonymize

__all__ = [
    "SYSTEM",
    "cancel",
    "claim",
    "comment",
    "decide",
    "examine",
    "fail",
    "hold",
    "lift_hold",
    "mirror",
    "pause",
    "prune",
    "pseudonymize",
    "publish",
    "reactivate",
    "read",
    "reassign",
    "release",
    "resolve",
    "resolve_all",
    "resume",
    "retire",
    "retry_step",
    "save_draft",
    "skip_step",
    "start",
]
