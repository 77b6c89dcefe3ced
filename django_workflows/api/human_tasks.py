"""Human tasks over REST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from django_workflows import services
from django_workflows.exceptions import InvalidInput
from django_workflows.models import HumanTask
from django_workflows.permissions import is_candidate
from django_workflows.states import TaskStatus

from .base import Pages, View
from .filters import HumanTaskFilter
from .rendering import task_detail, task_form, task_in_list


class TaskPages(Pages):
    ordering = ("-created_at", "-id")


class HumanTaskView(View):
    """Questions put to people, the newest first; ``?mine=true`` is the inbox."""

    filter_backends = (DjangoFilterBackend,)
    filterset_class = HumanTaskFilter
    pagination_class = TaskPages

    def get_queryset(self) -> Any:
        return self.rules.human_tasks(self.request.user).filter(tenant=self.tenant)

    def list(self, request: Request) -> Response:
        rows = self.get_queryset()
        if request.query_params.get("mine", "").lower() in ("1", "true"):
            rows = HumanTask.objects.inbox(request.user).filter(tenant=self.tenant).order_by()
        page = self.paginate_queryset(self.filter_queryset(rows.select_related("instance")))
        return self.get_paginated_response([task_in_list(task) for task in page or ()])

    @property
    def task(self) -> Any:
        rows = self.get_queryset().select_related("instance__definition")
        return self.found(rows.prefetch_related("candidates__user", "candidates__group", "decisions"))

    def retrieve(self, request: Request, pk: str) -> Response:
        return self._shown(self.task)

    def _shown(self, task: HumanTask) -> Response:
        return Response(task_detail(task, self._actions(task)))

    def _actions(self, task: HumanTask) -> Sequence[str]:
        """The verbs the user may use on the task as it stands."""
        user: Any = self.request.user
        if not task.is_open or task.instance.is_ended:
            return ["comment"]
        may_administer = self.rules.may_administer(user, task.instance)
        candidate = HumanTask.objects.filter(is_candidate(user.pk, task.pk), pk=task.pk).exists()
        is_free = task.assignee_id in (None, user.pk)
        found = ["comment"]
        found += ["decide"] if candidate and is_free else []
        found += ["claim"] if candidate and is_free and task.status == TaskStatus.OPEN else []
        is_claimed = task.status == TaskStatus.CLAIMED
        found += ["release"] if is_claimed and (task.assignee_id == user.pk or may_administer) else []
        found += ["reassign"] if may_administer or (candidate and is_free) else []
        return found

    @action(detail=True)
    def form(self, request: Request, pk: str) -> Response:
        return Response(task_form(self.task))

    def _moved(self, verb: Any, *args: Any, **options: Any) -> Response:
        verb(self.found(self.get_queryset()), *args, by=self.request.user, **options)
        # who has handed the task on may not see it any more, but learns what became of it
        task = HumanTask.objects.select_related("instance__definition").get(pk=self.kwargs["pk"])
        return self._shown(task)

    @action(detail=True, methods=["post"])
    def claim(self, request: Request, pk: str) -> Response:
        self.wanted()
        return self._moved(services.claim)

    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        self.wanted()
        return self._moved(services.release)

    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """``{"outcome": …, "comment": …, "form": {…}}``."""
        options = self.wanted(outcome=str, comment=str, form=dict)
        return self._moved(services.decide, options.pop("outcome", ""), **options)

    @action(detail=True, methods=["post"])
    def reassign(self, request: Request, pk: str) -> Response:
        """``{"user": "name" | "group": "name", "reason": …}``."""
        options = self.wanted(user=str, group=str, reason=str)
        self.found(self.get_queryset())
        return self._moved(services.reassign, to=_recipient(options), reason=options.get("reason", ""))

    @action(detail=True, methods=["post"])
    def comment(self, request: Request, pk: str) -> Response:
        return self._moved(services.comment, self.wanted(text=str).get("text", ""))


def _recipient(options: dict[str, Any]) -> Any:
    """The user or the group that is named."""
    if ("user" in options) == ("group" in options):
        raise InvalidInput("Name either a user or a group.", field="user")
    if "group" in options:
        group = Group.objects.filter(name=options["group"]).first()
        if group is None:
            raise InvalidInput(f"There is no group {options['group']!r}.", field="group")
        return group
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: options["user"]}, is_active=True).first()
    if user is None:
        raise InvalidInput(f"There is no user {options['user']!r}.", field="user")
    return user
