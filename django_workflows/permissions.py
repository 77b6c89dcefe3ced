"""Who may do what: one policy, both directions (may this user, and what may this user see).

Guardian grants rights on definitions; who may see and decide a task is told by the candidate table.
A right on a definition is tested for the object and for the model: either is enough.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Exists, Q, QuerySet
from django.utils.module_loading import import_string
from guardian.core import ObjectPermissionChecker
from guardian.shortcuts import get_objects_for_user

from django_workflows.conf import settings
from django_workflows.models import Decision, HumanTask, TaskCandidate, WorkflowDefinition, WorkflowInstance
from django_workflows.models.definitions import DefinitionQuerySet
from django_workflows.models.human_tasks import CANDIDATE, EXCLUDED, HumanTaskQuerySet
from django_workflows.models.instances import InstanceQuerySet
from django_workflows.states import DefinitionStatus

START = "start_workflowdefinition"
VIEW_INSTANCES = "view_instances_workflowdefinition"
ADMINISTER = "administer_workflowdefinition"
PUBLISH = "publish_workflowdefinition"


class PermissionPolicy:
    """The rules. A project replaces them with a subclass, named in ``WORKFLOWS_PERMISSION_POLICY``.

    Users are active here: services and faces let nobody else in.
    """

    # rights on definitions

    def has_right(self, user: Any, right: str, definition: WorkflowDefinition) -> bool:
        """Whether the user has the right, for every definition or for this one."""
        if user.is_superuser or user.has_perm(f"django_workflows.{right}"):
            return True
        return bool(ObjectPermissionChecker(user).has_perm(right, definition))

    def may_start(self, user: Any, definition: WorkflowDefinition, start: str) -> bool:
        """``start`` is what the definition says: ``everyone`` or ``granted``."""
        return start == "everyone" or self.has_right(user, START, definition)

    def may_publish(self, user: Any, definition: WorkflowDefinition | None) -> bool:
        """Publish or retire; ``None`` stands for a definition that is new."""
        if definition is None:
            return bool(user.is_superuser or user.has_perm(f"django_workflows.{PUBLISH}"))
        return self.has_right(user, PUBLISH, definition)

    def may_administer(self, user: Any, instance: WorkflowInstance) -> bool:
        """Pause, resume, retry, skip, reassign and cancel whatever the instance."""
        return self.has_right(user, ADMINISTER, instance.definition)

    def may_cancel(self, user: Any, instance: WorkflowInstance) -> bool:
        """The initiator may take back what is not over; an administrator may always."""
        return instance.initiator_id == user.pk or self.may_administer(user, instance)

    # what a user sees

    def definitions(self, user: Any) -> DefinitionQuerySet:
        """Published ones that everyone may start, and those the user has any right on."""
        everything = WorkflowDefinition.objects.all()
        if user.is_superuser or any(
            user.has_perm(f"django_workflows.{right}") for right in (ADMINISTER, PUBLISH, "view_workflowdefinition")
        ):
            return everything
        open_to_all = Q(status=DefinitionStatus.PUBLISHED) & Q(start="everyone")
        return everything.filter(
            open_to_all | Q(pk__in=self._granted(user, (START, VIEW_INSTANCES, ADMINISTER, PUBLISH)))
        )

    def instances(self, user: Any) -> InstanceQuerySet:
        """Those the user started, takes part in, or may see by a right on the definition."""
        everything = WorkflowInstance.objects.all()
        if self._sees_all_instances(user):
            return everything
        return everything.filter(
            Q(initiator=user)
            | Q(pk__in=self._tasks_of(user).values("instance"))
            | Q(definition__in=self._granted(user, (VIEW_INSTANCES, ADMINISTER)))
        )

    def human_tasks(self, user: Any) -> HumanTaskQuerySet:
        """Those the user may or might decide, has decided, or may see by a right on the definition."""
        everything = HumanTask.objects.all()
        if self._sees_all_instances(user):
            return everything
        granted = self._granted(user, (VIEW_INSTANCES, ADMINISTER))
        mine = self._tasks_of(user).values("pk")
        return everything.filter(Q(pk__in=mine) | Q(instance__definition__in=granted))

    def candidates(self, task: HumanTask) -> QuerySet[Any]:
        """The other direction: the active users who may decide the task."""
        rows = TaskCandidate.objects.filter(task=task)
        out = rows.filter(kind=EXCLUDED).values("user")
        who = Q(pk__in=rows.filter(kind=CANDIDATE, user__isnull=False).values("user")) | Q(
            groups__in=rows.filter(kind=CANDIDATE, group__isnull=False).values("group")
        )
        return get_user_model()._default_manager.filter(who, is_active=True).exclude(pk__in=out).distinct()

    def _sees_all_instances(self, user: Any) -> bool:
        rights = (VIEW_INSTANCES, ADMINISTER, "view_workflowinstance")
        return bool(user.is_superuser or any(user.has_perm(f"django_workflows.{right}") for right in rights))

    def _granted(self, user: Any, rights: tuple[str, ...]) -> QuerySet[Any, Any]:
        return get_objects_for_user(
            user,
            [f"django_workflows.{right}" for right in rights],
            WorkflowDefinition,
            any_perm=True,
            accept_global_perms=False,
            with_superuser=False,
        ).values("pk")

    def _tasks_of(self, user: Any) -> HumanTaskQuerySet:
        """Tasks the user is or was a candidate of, or has decided."""
        candidate = TaskCandidate.objects.filter(kind=CANDIDATE)
        by_user = candidate.filter(user=user).values("task")
        by_group = candidate.filter(group__in=user.groups.all()).values("task")
        decided = Decision.objects.filter(actor=user).values("task")
        return HumanTask.objects.filter(Q(pk__in=by_user) | Q(pk__in=by_group) | Q(pk__in=decided) | Q(assignee=user))


def policy() -> PermissionPolicy:
    """The policy of the setting as it is now."""
    made: PermissionPolicy = import_string(settings.PERMISSION_POLICY)()
    return made


def is_candidate(user: Any, task: Any) -> Q:
    """For a query: whether the user is a candidate of the task, in person or by a group, and not excluded.

    ``user`` and ``task`` are keys; ``task`` may be an ``OuterRef`` to one.
    """
    rows = TaskCandidate.objects.filter(task=task)
    groups = get_user_model()._default_manager.filter(pk=user).values("groups")
    found = rows.filter(kind=CANDIDATE).filter(Q(user=user) | Q(group__in=groups))
    return Q(Exists(found)) & ~Q(Exists(rows.filter(kind=EXCLUDED, user=user)))
