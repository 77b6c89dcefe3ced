"""Who may decide: an assignment rule and the present of an instance give users and groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, Model, Q, QuerySet, UUIDField
from django.utils.module_loading import import_string

from django_workflows.conf import settings
from django_workflows.core import expressions
from django_workflows.core.commands import AnswerAssignment, Person
from django_workflows.core.events import Event, EventName
from django_workflows.core.snapshot import Snapshot, Token, scope_of
from django_workflows.core.steps import HumanStep
from django_workflows.exceptions import ExpressionError
from django_workflows.models import Decision, TaskCandidate, WorkflowInstance
from django_workflows.models.human_tasks import CANDIDATE, EXCLUDED
from django_workflows.registry import function_named, register_function

from . import clock
from .context import StepContext, describe
from .database import alias
from .prepared import Prepared


class _Wanted:
    """The names and keys that a rule gives, before they are looked up."""

    def __init__(self) -> None:
        self.users: list[str] = []
        self.groups: list[str] = []
        self.notes: dict[str, Any] = {}

    def add(self, found: Any, source: str) -> None:
        """A name, a user, a group, several of them, or ``{"users": …, "groups": …}``."""
        if found is None or found == "":
            return
        if isinstance(found, Group):
            self.groups.append(found.name)
        elif isinstance(found, Model):
            self.users.append(found.get_username() if hasattr(found, "get_username") else str(found.pk))
        elif isinstance(found, str):
            self.users.append(found)
        elif isinstance(found, dict):
            self.users += [str(name) for name in found.get("users", ())]
            self.groups += [str(name) for name in found.get("groups", ())]
        elif isinstance(found, Iterable):
            for item in found:
                self.add(item, source)
        else:
            self.notes[source] = f"{type(found).__name__} names nobody"


def resolve(
    row: WorkflowInstance, step: HumanStep, snapshot: Snapshot, token: Token, events: Sequence[Event]
) -> AnswerAssignment:
    """The candidates of a human task; the fallback group stands in where the rule names nobody."""
    wanted = _apply_rule(row, step, snapshot, token)
    excluded = _excluded(row, step, events)
    users, groups, electorate = _look_up(wanted.users, wanted.groups, excluded)
    resolution: dict[str, Any] = {
        "rule": _rule_text(step),
        "wanted": {"users": wanted.users, "groups": wanted.groups},
        "electorate": electorate,
        **wanted.notes,
    }
    found = electorate > 0
    if not found and settings.FALLBACK_GROUP:
        users, groups, electorate = _look_up([], [settings.FALLBACK_GROUP], excluded)
        resolution["fallback"] = settings.FALLBACK_GROUP
    elif step.assign.membership == "snapshot" and groups:
        users, groups = _members(users, groups, excluded), []
    return AnswerAssignment(
        key=token.key,
        users=tuple(users),
        groups=tuple(groups),
        excluded=tuple(excluded),
        electorate=electorate,
        found=found,
        resolution=resolution,
    )


def _rule_text(step: HumanStep) -> dict[str, Any]:
    rule = step.assign
    fields = ("users", "groups", "expression", "function", "arguments", "membership")
    return {name: _listed(getattr(rule, name)) for name in fields if getattr(rule, name)}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _apply_rule(row: WorkflowInstance, step: HumanStep, snapshot: Snapshot, token: Token) -> _Wanted:
    wanted, rule = _Wanted(), step.assign
    wanted.users += rule.users
    wanted.groups += rule.groups
    try:
        if rule.expression:
            wanted.add(expressions.evaluate(rule.expression, scope_of(snapshot, clock.now())), "expression")
        if rule.function:
            context = StepContext(row, snapshot, token)
            with transaction.atomic(using=alias()):
                wanted.add(function_named(rule.function)(context, **rule.arguments), "function")
    except ExpressionError as error:
        wanted.notes["error"] = error.message
    except Exception as error:  # noqa: BLE001 - user code: a rule that fails names nobody, and the incident says why
        wanted.notes["error"] = f"{type(error).__name__}: {describe(error)}"
    return wanted


def _excluded(row: WorkflowInstance, step: HumanStep, events: Sequence[Event]) -> list[Person]:
    """Who may not decide although a candidate: the initiator, or the deciders of other steps."""
    people: dict[str, Person] = {}
    if "initiator" in step.exclude and row.initiator_id is not None:
        key = str(row.initiator_id)
        people[key] = Person(id=key, name=row.initiator_name)
    steps = [name for name in step.exclude if name != "initiator"]
    if steps:
        decided = Decision.objects.filter(task__instance=row.pk, task__step__in=steps, actor__isnull=False)
        for actor_id, name in decided.values_list("actor_id", "actor_name"):
            people[str(actor_id)] = Person(id=str(actor_id), name=name)
    for event in events:
        if event.name == EventName.HUMAN_TASK_DECIDED and event.step in steps and event.by.id:
            people[event.by.id] = Person(id=event.by.id, name=event.by.name)
    return list(people.values())


def _look_up(names: list[str], groups: list[str], excluded: list[Person]) -> tuple[list[Person], list[Person], int]:
    """The active users and the groups of those names, and how many different people that makes."""
    out = [person.id for person in excluded]
    users = _users_named(names, out)
    if not groups:
        return users, [], len(users)
    found = _groups_named(groups, out)
    people = [person for person, _ in found]
    if len(found) == 1 and not users:
        return users, people, found[0][1]
    who = Q(pk__in=[person.id for person in users]) | Q(groups__in=[person.id for person in people])
    everybody = get_user_model()._default_manager.filter(who, is_active=True).exclude(pk__in=out)
    return users, people, everybody.values("pk").distinct().count()


def _users_named(names: list[str], out: list[str]) -> list[Person]:
    if not names:
        return []
    if len(names) == 1:
        rows: Iterable[Any] = _ACTIVE_USER.rows(name=names[0])
    else:
        rows = _active_users().filter(**{f"{get_user_model().USERNAME_FIELD}__in": names})
    people = (Person(id=str(row.pk), name=str(row.get_username())) for row in rows)
    return [person for person in people if person.id not in out]


def _active_users() -> QuerySet[Any]:
    model = get_user_model()
    return model._default_manager.filter(is_active=True).only("pk", model.USERNAME_FIELD)


def _groups_named(names: list[str], out: list[str]) -> list[tuple[Person, int]]:
    """Each group with the number of its members who may decide."""
    if len(names) == 1 and len(out) <= 1:
        user_key = get_user_model()._meta.pk
        nobody = "00000000-0000-0000-0000-000000000000" if isinstance(user_key, UUIDField) else "-1"
        rows: Iterable[Any] = _GROUP.rows(name=names[0], out=user_key.to_python(out[0] if out else nobody))
    else:
        rows = _with_size(~Q(user__in=out)).filter(name__in=names)
    return [(Person(id=str(row.pk), name=row.name), row.size) for row in rows]


def _with_size(eligible: Q) -> QuerySet[Any]:
    return Group.objects.annotate(size=Count("user", filter=Q(user__is_active=True) & eligible)).order_by("pk")


_ACTIVE_USER: Prepared[Any] = Prepared(
    lambda name: _active_users().filter(**{get_user_model().USERNAME_FIELD: name}),
    name=lambda: get_user_model()._meta.get_field(get_user_model().USERNAME_FIELD),
)
_GROUP: Prepared[Any] = Prepared(
    lambda name, out: _with_size(~Q(user=out)).filter(name=name),
    name=lambda: Group._meta.get_field("name"),
    out=lambda: get_user_model()._meta.pk,
)


def _members(users: list[Person], groups: list[Person], excluded: list[Person]) -> list[Person]:
    """Everybody who is in the groups now, besides the users; for a membership that stays as it is."""
    model = get_user_model()
    rows = model._default_manager.filter(is_active=True, groups__in=[p.id for p in groups]).distinct()
    found = {person.id: person for person in users}
    for key, name in rows.values_list("pk", model.USERNAME_FIELD):
        found[str(key)] = Person(id=str(key), name=str(name))
    for person in excluded:
        found.pop(person.id, None)
    return list(found.values())


def electorate_of(task_id: Any) -> int:
    """How many different active people may answer now, where group membership is live."""
    rows = TaskCandidate.objects.filter(task=task_id)
    candidates, out = rows.filter(kind=CANDIDATE), rows.filter(kind=EXCLUDED).values("user")
    who = Q(pk__in=candidates.filter(user__isnull=False).values("user")) | Q(
        groups__in=candidates.filter(group__isnull=False).values("group")
    )
    people = get_user_model()._default_manager.filter(who, is_active=True).exclude(pk__in=out)
    return people.values("pk").distinct().count()


def _manager_of(context: StepContext, *, whom: str = "initiator") -> Any:
    """The manager of the initiator, or of who decided the step ``whom`` last."""
    if not settings.MANAGER_OF:
        raise LookupError("WORKFLOWS_MANAGER_OF is not set, so nobody's manager is known.")
    instance = context.instance
    person: Any = instance.initiator
    if whom != "initiator":
        made = Decision.objects.filter(task__instance=instance, task__step=whom).select_related("actor").last()
        person = made.actor if made else None
    return import_string(settings.MANAGER_OF)(person) if person is not None else None


register_function(_manager_of, "manager_of")
