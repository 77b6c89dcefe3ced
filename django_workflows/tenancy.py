"""Whose a request is: decided on the server, never by what the client says."""

from __future__ import annotations

from typing import Any

from django.utils.module_loading import import_string

from django_workflows.conf import settings


def tenant_of(request: Any) -> str:
    """The tenant of a request by ``WORKFLOWS_TENANT_OF_REQUEST``; empty where there are none."""
    path = settings.TENANT_OF_REQUEST
    return str(import_string(path)(request)) if path else ""
