"""What all endpoints share; the one place where errors get their HTTP meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions as drf
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from django_workflows import exceptions as errors
from django_workflows.conf import settings
from django_workflows.core.masking import mask
from django_workflows.core.values import parse_json
from django_workflows.engine.loader import sensitive_of
from django_workflows.engine.locking import uuid_of
from django_workflows.permissions import PermissionPolicy, policy
from django_workflows.tenancy import tenant_of

#: Error class -> HTTP status; the nearest base counts.
STATUS: Final[dict[type[Exception], int]] = {
    errors.NotFound: 404,
    errors.DefinitionNotFound: 404,
    errors.NotAuthorized: 403,
    errors.TransitionNotAllowed: 409,
    errors.DuplicateInstance: 409,
    errors.LimitReached: 429,
    errors.DefinitionConflict: 409,
    errors.PayloadTooLarge: 413,
    errors.InvalidInput: 400,
    errors.DefinitionError: 400,
    errors.WorkflowError: 400,
}

_JSON: Final = (str, int, float, dict, list, tuple)
_DRF_CODES: Final = {404: "not_found", 403: "not_authorized"}


def handle_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """One shape for every refusal: ``{"code": …, "message": …, "details": {…}}``."""
    if isinstance(error, errors.WorkflowError):
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        return _response(status, error.code, error.message, _details(error))
    if isinstance(error, Http404):
        return _response(404, "not_found", "There is nothing here that you may see.", {})
    if isinstance(error, PermissionDenied):
        return _response(403, "not_authorized", "You may not do this.", {})
    if isinstance(error, drf.APIException):
        response = _response(error.status_code, _drf_code(error), _drf_message(error), _drf_details(error))
        if isinstance(error, drf.NotAuthenticated | drf.AuthenticationFailed):
            response["WWW-Authenticate"] = getattr(error, "auth_header", "") or "Session"
        if isinstance(error, drf.Throttled) and getattr(error, "wait", None):
            response["Retry-After"] = f"{error.wait:.0f}"  # type: ignore[attr-defined]
        return response
    if step := errors.refusing_step(error):
        return _response(409, "step_refused", f"The step {step!r} refused it: {error}", {"step": step})
    return None


def _response(status: int, code: str, message: str, details: dict[str, Any]) -> Response:
    return Response({"code": code, "message": message, "details": details}, status=status)


def _details(error: errors.WorkflowError) -> dict[str, Any]:
    facts = dict(error.facts)
    if isinstance(error, errors.InvalidDefinition):
        names = ("code", "severity", "place", "line", "column", "message", "suggestion")
        facts["problems"] = [{name: getattr(p, name) for name in names} for p in error.problems]
    return {
        name: value if isinstance(value, (str, int, float, dict, list, tuple)) else str(value)
        for name, value in facts.items()
    }


def _drf_code(error: drf.APIException) -> str:
    if isinstance(error, drf.NotAuthenticated | drf.AuthenticationFailed):
        return "not_authenticated"
    return _DRF_CODES.get(error.status_code, str(error.default_code))


def _drf_message(error: drf.APIException) -> str:
    return str(error.detail) if isinstance(error.detail, str) else "The request was not accepted."


def _drf_details(error: drf.APIException) -> dict[str, Any]:
    if isinstance(error.detail, dict):
        return error.detail
    return {"errors": error.detail} if isinstance(error.detail, list) else {}


class StrictJSONParser(BaseParser):
    """JSON without NaN, double keys and surprises; what is too large is refused before it is read on."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        limit = settings.MAX_PAYLOAD_BYTES + 10_000
        return parse_json(stream.read(limit + 1), max_bytes=limit)


class Pages(CursorPagination):
    """Cursors, because page numbers shift while rows come in."""

    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"
    ordering: Any = "-id"


class View(GenericViewSet[Any]):
    """Explicit permissions, one error shape, strict JSON; rows are those that the policy shows the user."""

    permission_classes = (IsAuthenticated,)
    parser_classes = (StrictJSONParser,)
    renderer_classes = (JSONRenderer,)
    pagination_class = Pages

    def get_exception_handler(self) -> Any:
        return handle_error

    def permission_denied(self, request: Any, message: str | None = None, code: str | None = None) -> Any:
        if not request.user or not request.user.is_authenticated:
            raise drf.NotAuthenticated
        raise drf.PermissionDenied(detail=message, code=code)

    @property
    def rules(self) -> PermissionPolicy:
        return policy()

    @property
    def tenant(self) -> str:
        return tenant_of(self.request)

    def found(self, queryset: Any) -> Any:
        """The one row with the key of the URL, if the user may see it; else 404."""
        key = uuid_of(self.kwargs["pk"])
        row = None if key is None else queryset.filter(pk=key, tenant=self.tenant).first()
        if row is None:
            raise Http404
        return row

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON, which is an object (or nothing)."""
        data = self.request.data
        if not data:
            return {}
        if not isinstance(data, dict):
            raise errors.InvalidInput("The body is a JSON object.", field="")
        return data

    def wanted(self, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
        """These fields of the body and no others, each of its kind; what is missing is left out."""
        body = self.body
        unknown = sorted(set(body) - set(kinds))
        if unknown:
            allowed = ", ".join(kinds) or "none"
            raise errors.InvalidInput(f"Unknown field {unknown[0]!r}; allowed: {allowed}.", field=unknown[0])
        for name, kind in kinds.items():
            if name in body and not isinstance(body[name], kind):
                raise errors.InvalidInput(f"{name!r} has the wrong type: {type(body[name]).__name__}.", field=name)
        return dict(body)


def masked(value: Any, definition_id: Any) -> Any:
    """A value of an instance of this definition, with what is sensitive hidden; all of it, if nobody knows what is."""
    sensitive = sensitive_of(definition_id)
    if sensitive is None:
        return {} if isinstance(value, Mapping) else None
    return mask(value, (*settings.SENSITIVE_KEYS, *sensitive))
