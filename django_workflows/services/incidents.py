"""What people do about incidents, one by one or all of one cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from django_workflows.core import commands as c
from django_workflows.engine.database import alias
from django_workflows.engine.locking import lock, uuid_of
from django_workflows.engine.runner import advance
from django_workflows.exceptions import InvalidInput, NotFound, TransitionNotAllowed, WorkflowError
from django_workflows.models import Incident, WorkflowInstance
from django_workflows.permissions import policy
from django_workflows.states import IncidentStatus

from .authority import actor_of, refuse
from .instances import data_of, encoded, key_of, reason_of

#: ``retry``: try the step again, after setting ``data``. ``skip``: go on as if it had ended with
#: ``output`` and ``outcome``. ``fail``: end the instance. ``dismiss``: one that stops nothing was seen to.
ACTIONS: Final = ("retry", "skip", "fail", "dismiss")


@dataclass(slots=True, kw_only=True)
class Report:
    """What a bulk action came to: ``refused`` holds the key of each incident left, and why."""

    found: int = 0
    done: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def resolve(
    incident: Incident | UUID | str,
    action: str,
    *,
    by: Any,
    data: Mapping[str, Any] | None = None,
    output: Any = None,
    outcome: str = "",
    reason: str = "",
) -> WorkflowInstance:
    """See to one incident. Takes an administrator of the workflow; all but ``retry`` need a ``reason``.

    Raises ``NotFound``, ``NotAuthorized``, ``InvalidInput`` for an unknown action, a missing reason or
    options that belong to another action, or ``TransitionNotAllowed`` if it is resolved already.
    """
    actor = actor_of(by)
    _check_options(action, data=data, output=output, outcome=outcome)
    text = reason_of(reason) if action != "retry" else reason
    with transaction.atomic(using=alias()):
        found = _found(incident)
        row = lock(found.instance_id)
        if not actor.is_system and not policy().may_administer(by, row):
            raise refuse(actor, f"resolve incidents of {row}", needs="the right to administer the workflow")
        found.refresh_from_db(using=alias())
        if found.status != IncidentStatus.OPEN:
            raise TransitionNotAllowed(
                f"The incident is resolved: {found.resolution} by {found.resolved_by_name}.", status=found.status
            )
        return advance(row, _COMMANDS[action](found, actor, data or {}, output, outcome, text))


def resolve_all(
    fingerprint: str,
    action: str,
    *,
    by: Any,
    tenant: str | None = None,
    limit: int = 1000,
    dry_run: bool = False,
    **options: Any,
) -> Report:
    """Do the same with every open incident of one cause, each in a transaction of its own.

    ``options`` are those of ``resolve``. What is refused is reported and holds up nothing. At most
    ``limit`` at once, the oldest first; ``dry_run`` only counts. ``by`` sees to what ``by`` may see, of
    one ``tenant`` if that is given.
    """
    actor = actor_of(by)
    _check_options(action, **{name: options.get(name) for name in ("data", "output", "outcome")})
    if action != "retry":
        reason_of(options.get("reason", ""))
    rows = Incident.objects.using(alias()).open().filter(fingerprint=fingerprint).order_by("first_at", "id")
    rows = rows if tenant is None else rows.filter(tenant=tenant)
    if not actor.is_system:
        rows = rows.filter(instance__in=policy().instances(by))
    if limit < 1:
        raise InvalidInput("At least one incident must be allowed.", field="limit")
    keys = list(rows.values_list("pk", flat=True)[:limit])
    report = Report(found=len(keys))
    for key in [] if dry_run else keys:
        try:
            resolve(key, action, by=by, **options)
        except WorkflowError as error:
            report.refused.append((str(key), error.message))
        else:
            report.done += 1
    return report


def _found(incident: Incident | UUID | str) -> Incident:
    key = uuid_of(key_of(incident))
    row = None if key is None else Incident.objects.using(alias()).filter(pk=key).first()
    if row is None:
        raise NotFound(f"There is no incident {key_of(incident)}.", incident_id=str(key_of(incident)))
    return row


#: Action -> the options that mean something to it.
_OPTIONS: Final = {"retry": ("data",), "skip": ("output", "outcome"), "fail": (), "dismiss": ()}


def _check_options(action: str, **options: Any) -> None:
    if action not in ACTIONS:
        raise InvalidInput(
            f"{action!r} is nothing to do about an incident; allowed: {', '.join(ACTIONS)}.", field="action"
        )
    for name, value in options.items():
        if value not in (None, "", {}) and name not in _OPTIONS[action]:
            raise InvalidInput(f"{name} means nothing to the action {action!r}.", field=name)


Make = Callable[[Incident, c.Actor, Mapping[str, Any], Any, str, str], c.Command]


def _retry(found: Incident, actor: c.Actor, data: Mapping[str, Any], output: Any, outcome: str, text: str) -> c.Command:
    return c.RetryStep(by=actor, key=found.execution.key, changes=data_of(data))


def _skip(found: Incident, actor: c.Actor, data: Mapping[str, Any], output: Any, outcome: str, text: str) -> c.Command:
    return c.SkipStep(by=actor, key=found.execution.key, reason=text, outcome=outcome, output=encoded(output))


def _fail(found: Incident, actor: c.Actor, data: Mapping[str, Any], output: Any, outcome: str, text: str) -> c.Command:
    return c.FailInstance(by=actor, error=text, error_type="FailedByHand")


def _dismiss(
    found: Incident, actor: c.Actor, data: Mapping[str, Any], output: Any, outcome: str, text: str
) -> c.Command:
    return c.DismissIncident(by=actor, key=found.execution.key, kind=found.kind, reason=text)


_COMMANDS: Final[dict[str, Make]] = {"retry": _retry, "skip": _skip, "fail": _fail, "dismiss": _dismiss}
