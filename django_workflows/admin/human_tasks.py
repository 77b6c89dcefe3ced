"""Human tasks in the admin: the inbox, and the page on which they are decided."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from django_workflows import services
from django_workflows.core.forms import clean
from django_workflows.core.steps import HumanStep
from django_workflows.engine import clock
from django_workflows.engine.loader import definition_for
from django_workflows.exceptions import InvalidForm, InvalidInput, NotAuthorized, WorkflowError
from django_workflows.models import HumanTask
from django_workflows.permissions import is_candidate
from django_workflows.states import TaskStatus
from django_workflows.tenancy import tenant_of

from .base import ReadOnlyAdmin, badge, link, pretty
from .forms import fields_of, submitted


class Mine(admin.SimpleListFilter):
    title = "whose"
    parameter_name = "mine"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return (("inbox", "My inbox"), ("held", "Held by me"))

    def queryset(self, request: Any, queryset: Any) -> Any:
        if self.value() == "inbox":
            return queryset.filter(pk__in=HumanTask.objects.inbox(request.user).order_by().values("pk"))
        return queryset.filter(assignee=request.user) if self.value() == "held" else queryset


class Overdue(admin.SimpleListFilter):
    title = "due date"
    parameter_name = "overdue"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return (("yes", "Overdue"),)

    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset.overdue(now=clock.now()) if self.value() == "yes" else queryset


@admin.register(HumanTask)
class HumanTaskAdmin(ReadOnlyAdmin):
    list_display = ("title", "workflow", "shown_status", "outcome", "assignee_name", "due_at", "created_at")
    list_filter = (Mine, "status", Overdue, "instance__workflow")
    list_select_related = ("instance",)
    search_fields = ("title", "instance__title", "instance__business_key")
    ordering = ("-created_at", "-id")
    acts = ("decide", "claim", "release", "reassign", "comment")
    page_template = "admin/django_workflows/human_task.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = self.rules.human_tasks(request.user).filter(tenant=tenant_of(request))
        return rows.select_related("instance__definition")

    @admin.display(description="workflow", ordering="instance__workflow")
    def workflow(self, row: Any) -> str:
        return str(row.instance.workflow)

    @admin.display(description="status", ordering="status")
    def shown_status(self, row: Any) -> str:
        return badge(row.status, row.get_status_display())

    def shown(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        step = _step(row)
        user: Any = request.user
        candidate = row.is_open and HumanTask.objects.filter(is_candidate(user.pk, row.pk), pk=row.pk).exists()
        is_free = row.assignee_id in (None, user.pk)
        may_administer = row.is_open and self.rules.may_administer(user, row.instance)
        is_claimed = row.status == TaskStatus.CLAIMED
        may_claim = (
            candidate and is_free and not is_claimed and step.quorum_policy.kind == "any" and not row.assignee_id
        )
        return {
            "instance_link": link(row.instance),
            "status_badge": badge(row.status, row.get_status_display()),
            "is_overdue": bool(row.is_open and row.due_at and row.due_at < clock.now()),
            "may_decide": candidate and is_free and not (step.claim_required and not row.assignee_id),
            "may_claim": may_claim,
            "may_release": is_claimed and (row.assignee_id == user.pk or may_administer),
            "may_reassign": may_administer or (candidate and is_free),
            "fields": fields_of(step.form or {}, {}, {}),
            "outcomes": [
                (value, step.labels.get(value, value.replace("_", " ").capitalize()), value in step.comment_required)
                for value in step.outcomes
            ],
            "comment_required": [step.labels.get(value, value) for value in step.comment_required],
            "quorum": str(step.quorum_policy) if step.quorum_policy.kind != "any" else "",
            "decisions": [
                (d, pretty(d.form, row.instance.definition_id) if d.form else "") for d in row.decisions.all()
            ],
            "comments": row.instance.events.filter(name="human_task_commented", step=row.step).order_by("sequence"),
            "candidates": row.candidates.filter(kind="candidate").select_related("user", "group"),
            "data": pretty(row.instance.data, row.instance.definition_id),
            "groups": Group.objects.order_by("name")[:200] if row.is_open else (),
            "comment": "",
        }

    def act_decide(self, request: HttpRequest, row: Any) -> HttpResponse:
        step = _step(row)
        schema, comment = step.form or {}, request.POST.get("comment", "")
        data = submitted(request, schema)
        try:
            answers = clean(schema, data, coerce=True) if schema else {}
            services.decide(row, request.POST.get("outcome", ""), by=request.user, comment=comment, form=answers)
        except InvalidForm as error:
            fields = fields_of(schema, data, error.errors)
            return self.page(request, row, fields=fields, form_errors=error.errors.get("", ()), comment=comment)
        except NotAuthorized:
            raise
        except WorkflowError as error:
            self.message_user(request, error.message, messages.ERROR)
            return self.page(
                request, self.row(request, str(row.pk)), fields=fields_of(schema, data, {}), comment=comment
            )
        self.message_user(request, f"{row.title}: decided.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:django_workflows_humantask_changelist") + "?mine=inbox")

    def act_claim(self, request: HttpRequest, row: Any) -> None:
        services.claim(row, by=request.user)
        self.message_user(request, "The task is yours.", messages.SUCCESS)

    def act_release(self, request: HttpRequest, row: Any) -> None:
        services.release(row, by=request.user)
        self.message_user(request, "The task is free again.", messages.SUCCESS)

    def act_reassign(self, request: HttpRequest, row: Any) -> HttpResponse:
        services.reassign(row, by=request.user, to=_recipient(request), reason=request.POST.get("reason", ""))
        self.message_user(request, "The task is handed on.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:django_workflows_humantask_changelist"))

    def act_comment(self, request: HttpRequest, row: Any) -> None:
        services.comment(row, request.POST.get("text", ""), by=request.user)


def _step(row: Any) -> HumanStep:
    step = definition_for(row.instance.definition_id).step(row.step)
    if not isinstance(step, HumanStep):
        raise TypeError(f"{row.step} is no human step.")
    return step


def _recipient(request: HttpRequest) -> Any:
    name, group = request.POST.get("user", "").strip(), request.POST.get("group", "")
    model = get_user_model()
    found: Any = None
    if name:
        found = model._default_manager.filter(**{model.USERNAME_FIELD: name}, is_active=True).first()
    elif group:
        found = Group.objects.filter(name=group).first()
    if found is None:
        raise InvalidInput(f"There is no active user or group {name or group!r}.", field="user")
    return found
