"""What all pages share: rows that nobody edits, and acts that call one service."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from django_workflows.conf import settings
from django_workflows.core.masking import STARS, mask
from django_workflows.engine.loader import sensitive_of
from django_workflows.engine.locking import uuid_of
from django_workflows.exceptions import NotAuthorized, WorkflowError, refusing_step
from django_workflows.permissions import PermissionPolicy, policy


class ReadOnlyAdmin(admin.ModelAdmin):
    """Lists and pages of rows; ``acts`` are the POSTs of a page: name -> method of the admin class."""

    acts: tuple[str, ...] = ()
    page_template = ""
    list_per_page = 50
    show_full_result_count = False
    actions_on_top = True

    class Media:
        css = {"all": ("django_workflows/drawing.css", "django_workflows/admin.css")}

    @property
    def rules(self) -> PermissionPolicy:
        return policy()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Every member of the staff: which rows, the policy says."""
        return bool(request.user.is_active and request.user.is_staff)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[Any]:
        name = self.model._meta.model_name
        own = [
            path(
                f"<path:key>/{act}/",
                self.admin_site.admin_view(self._act(act)),
                name=f"django_workflows_{name}_{act}",
            )
            for act in self.acts
        ]
        return own + super().get_urls()

    def row(self, request: HttpRequest, key: str) -> Any:
        """The row, if this user may see it; else 404."""
        uuid = uuid_of(key)
        row = None if uuid is None else self.get_queryset(request).filter(pk=uuid).first()
        if row is None:
            raise Http404
        return row

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self.page(request, self.row(request, object_id), **(extra_context or {}))

    def page(self, request: HttpRequest, row: Any, **context: Any) -> HttpResponse:
        """The page of one row, with what the subclass shows of it."""
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": str(row),
            "row": row,
            "media": self.media,
            "history_url": "",
            **self.shown(request, row),
            **context,
        }
        return TemplateResponse(request, self.page_template, context)

    def shown(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the template of the page needs."""
        return {}

    def _act(self, name: str) -> Callable[[HttpRequest, str], HttpResponse]:
        def view(request: HttpRequest, key: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            row = self.row(request, key)
            try:
                answer = getattr(self, f"act_{name}")(request, row)
            except NotAuthorized as error:
                raise PermissionDenied(error.message) from error
            except WorkflowError as error:
                self.message_user(request, error.message, messages.ERROR)
                answer = None
            except Exception as error:
                step = refusing_step(error)
                if not step:
                    raise
                self.message_user(request, f"The step {step!r} refused it: {error}", messages.ERROR)
                answer = None
            return answer or HttpResponseRedirect(self.url_of(row))

        return view

    def url_of(self, row: Any) -> str:
        meta = row._meta
        return reverse(f"{self.admin_site.name}:{meta.app_label}_{meta.model_name}_change", args=[row.pk])


def link(row: Any, text: str = "") -> SafeString:
    """A link to the admin page of a row."""
    meta = row._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', url, text or str(row))


def badge(status: str, label: str = "") -> SafeString:
    return format_html('<span class="wf-status wf-status-{}">{}</span>', status, label or status)


def duration(seconds: float | None) -> str:
    """The two largest units, as people say it."""
    if seconds is None:
        return "–"
    parts = []
    rest = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or f"{seconds:.2f} s"


def pretty(value: Any, definition_id: Any = None) -> str:
    """JSON for people, with what is sensitive hidden."""
    sensitive = () if definition_id is None else sensitive_of(definition_id)
    if sensitive is None:
        return STARS
    return json.dumps(mask(value, (*settings.SENSITIVE_KEYS, *sensitive)), indent=2, ensure_ascii=False, default=str)


def picture(svg: str) -> SafeString:
    """A drawing, whose texts have been escaped where it was made."""
    return mark_safe(svg)  # noqa: S308 - see core.drawing
