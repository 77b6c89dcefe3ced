"""Instances over REST."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from django_workflows import services
from django_workflows.engine.loader import definition_for
from django_workflows.engine.locking import uuid_of
from django_workflows.exceptions import InvalidInput
from django_workflows.states import EventName

from .base import Pages, View
from .definitions import START_FIELDS, picture, started
from .filters import InstanceFilter
from .rendering import event_row, incident_row, instance_actions, instance_detail, instance_row, states, step_row

MOST_EVENTS = 500

#: Seconds that a request may wait for a cancellation.
LONGEST_WAIT = 30


class InstancePages(Pages):
    ordering = ("-started_at", "-id")


class InstanceView(View):
    """Runs of workflows."""

    filter_backends = (DjangoFilterBackend,)
    filterset_class = InstanceFilter
    pagination_class = InstancePages

    def get_queryset(self) -> Any:
        return self.rules.instances(self.request.user).filter(tenant=self.tenant)

    @property
    def instance(self) -> Any:
        return self.found(self.get_queryset().select_related("definition", "subject_type"))

    def list(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([instance_row(row) for row in rows or ()])

    def create(self, request: Request) -> Response:
        body = self.wanted(workflow=str, version=str, **START_FIELDS)
        name = body.pop("workflow", "")
        if not name:
            raise InvalidInput("'workflow' names what is to be started.", field="workflow")
        rows = self.rules.definitions(request.user).filter(tenant=self.tenant, name=name)
        if not rows.exists():
            raise Http404
        return started(self, name, body)

    def retrieve(self, request: Request, pk: str) -> Response:
        return self._shown(self.instance)

    def _shown(self, row: Any) -> Response:
        may = self.rules.may_administer(self.request.user, row)
        may_cancel = may or self.rules.may_cancel(self.request.user, row)
        return Response(instance_detail(row, instance_actions(row, may_administer=may, may_cancel=may_cancel)))

    def _moved(self, verb: Any, **options: Any) -> Response:
        row = self.instance
        verb(row, by=self.request.user, **options)
        return self._shown(self.instance)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """``wait`` is how many seconds (30 at most) to wait for the end, should a step be at work;
        ``force`` closes that step at once."""
        options = self.wanted(reason=str, wait=(int, float), force=bool)
        if options.get("wait", 0) > LONGEST_WAIT:
            raise InvalidInput(f"A request may wait {LONGEST_WAIT} seconds, not longer.", field="wait")
        return self._moved(services.cancel, **options)

    @action(detail=True, methods=["post"])
    def hold(self, request: Request, pk: str) -> Response:
        return self._moved(services.hold, reason=self.wanted(reason=str).get("reason", ""))

    @action(detail=True, methods=["post"])
    def lift_hold(self, request: Request, pk: str) -> Response:
        return self._moved(services.lift_hold, reason=self.wanted(reason=str).get("reason", ""))

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._moved(services.pause, **self.wanted(reason=str))

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._moved(services.resume, **self.wanted(reason=str))

    @action(detail=True, methods=["post"])
    def fail(self, request: Request, pk: str) -> Response:
        return self._moved(services.fail, reason=self.wanted(reason=str).get("reason", ""))

    @action(detail=True, methods=["post"])
    def comment(self, request: Request, pk: str) -> Response:
        row = self.instance
        services.comment(row, self.wanted(text=str).get("text", ""), by=request.user)
        return self._shown(row)

    @action(detail=True)
    def graph(self, request: Request, pk: str) -> Any:
        row = self.instance
        return picture(request, definition_for(row.definition_id), states(row))

    @action(detail=True)
    def events(self, request: Request, pk: str) -> Response:
        """The history behind ``?after=SEQUENCE``, of the events named by ``?name=``; ``next`` is the cursor."""
        row = self.instance
        lines = row.events.after(_number(request.query_params.get("after", "0"), "after")).order_by("sequence")
        if wanted := request.query_params.get("name"):
            lines = lines.filter(name__in=_names(wanted))
        page = list(lines[:MOST_EVENTS])
        may = self.rules.may_administer(request.user, row)
        return Response(
            {
                "results": [event_row(line, in_full=may) for line in page],
                "next": page[-1].sequence if len(page) == MOST_EVENTS else None,
            }
        )

    @action(detail=True)
    def steps(self, request: Request, pk: str) -> Response:
        row = self.instance
        may = self.rules.may_administer(request.user, row)
        rows = row.step_executions.order_by("index")
        return Response([step_row(step, in_full=may, definition_id=row.definition_id) for step in rows])

    @action(detail=True, methods=["post"], url_path=r"steps/(?P<execution>[^/.]+)/retry")
    def retry_step(self, request: Request, pk: str, execution: str) -> Response:
        return self._step_moved(services.retry_step, execution, self.wanted(data=dict))

    @action(detail=True, methods=["post"], url_path=r"steps/(?P<execution>[^/.]+)/skip")
    def skip_step(self, request: Request, pk: str, execution: str) -> Response:
        anything = (str, int, float, bool, dict, list, type(None))
        options = self.wanted(reason=str, outcome=str, output=anything)
        return self._step_moved(services.skip_step, execution, {"reason": "", **options})

    def _step_moved(self, verb: Any, execution: str, options: dict[str, Any]) -> Response:
        key = uuid_of(execution)
        row = None if key is None else self.instance.step_executions.filter(pk=key).first()
        if row is None:
            raise Http404
        verb(row, by=self.request.user, **options)
        return self._shown(self.instance)

    @action(detail=True)
    def incidents(self, request: Request, pk: str) -> Response:
        return Response([incident_row(row) for row in self.instance.incidents.all()])


def _number(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput(f"{field!r} is a whole number, not {text[:20]!r}.", field=field)
    return int(text)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in set(EventName)]
    if unknown:
        raise InvalidInput(f"There is no event {unknown[0][:40]!r}.", field="name")
    return names
