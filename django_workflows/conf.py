"""The settings, with their defaults: ``WORKFLOWS_<NAME>`` in the project, read at the moment of use."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings


class Settings:
    """Shadows Django's settings: an attribute here is a setting, its value the default."""

    #: ``django_q``, ``immediate``, ``recording``, or the dotted path of an Executor class.
    EXECUTOR: str = "django_q"
    #: Modules that hold workflows, besides each app's ``workflows.py``.
    MODULES: tuple[str, ...] = ()
    #: Who decides when a rule names nobody: a group's name; empty for none.
    FALLBACK_GROUP: str = ""
    #: Dotted path of a function ``user -> user or None`` that knows everybody's manager.
    MANAGER_OF: str = ""
    #: Dotted path of a function ``request -> str`` that knows the tenant of a request.
    TENANT_OF_REQUEST: str = ""
    #: Dotted path of the permission policy.
    PERMISSION_POLICY: str = "django_workflows.permissions.PermissionPolicy"
    #: The most bytes that data, a form or a step's output may have as JSON.
    MAX_PAYLOAD_BYTES: int = 1_000_000
    #: Seconds after which a worker that has not been heard of counts as lost.
    LEASE_SECONDS: int = 300
    #: How often a step execution is taken up again after its worker was lost.
    MAX_RECOVERY_ATTEMPTS: int = 3
    #: How often an instance is taken up again in all after workers were lost.
    MAX_INSTANCE_RECOVERIES: int = 20
    #: Seconds that a body which cannot be stopped is given beyond its timeout, before its worker is killed.
    TIMEOUT_GRACE_SECONDS: float = 10.0
    #: The least number of seconds between two writes of a step's progress.
    PROGRESS_SECONDS: float = 0.5
    #: Events of one instance from which on a warning is logged; at the hard limit the instance fails.
    EVENT_SOFT_LIMIT: int = 10_000
    EVENT_HARD_LIMIT: int = 50_000
    #: Events between two warnings beyond the soft limit.
    EVENT_WARN_EVERY: int = 100
    #: How deep instances may be nested by ``parent``.
    MAX_NESTING: int = 20
    #: How long instances that have ended are kept, unless their definition says otherwise; empty for ever.
    RETENTION: str = ""
    #: Seconds after which a scheduled step whose message never came is queued again.
    REQUEUE_SECONDS: int = 60
    #: Seconds between two looks of the ticker at the agenda.
    TICK_SECONDS: float = 1.0
    #: Keys whose values are never shown in screens, signals, the API or logs.
    SENSITIVE_KEYS: tuple[str, ...] = ("password", "secret", "token", "api_key", "authorization")

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if not name.isupper():
            return default
        return getattr(django_settings, f"WORKFLOWS_{name}", default)


settings = Settings()

#: Name -> type, for the system checks.
SETTING_TYPES: dict[str, Any] = {name: value for name, value in Settings.__annotations__.items() if name.isupper()}
