"""Short leases and quick looks, so that a recovery takes a second and not five minutes."""

from __future__ import annotations

import json
import os
from typing import Any

from example_project.settings import database

DATABASES = {"default": database(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "for chaos only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "guardian",
    "django_q",
    "django_workflows",
    "benchmarks.chaos",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ANONYMOUS_USER_NAME = None
GUARDIAN_MONKEY_PATCH_USER = False
GUARDIAN_MONKEY_PATCH_GROUP = False
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": os.environ["CHAOS_FOLDER"] + "/log"}},
    "root": {"handlers": ["file"], "level": "INFO"},
}

Q_CLUSTER = {
    "name": "chaos",
    "orm": "default",
    "workers": int(os.environ.get("CHAOS_WORKERS", "4")),
    "queue_limit": int(os.environ.get("CHAOS_WORKERS", "4")),
    "bulk": 1,
    "timeout": 30,
    "retry": 120,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "poll": 0.05,
    "guard_cycle": 0.1,
    "save_limit": -1,
}

WORKFLOWS_EXECUTOR = os.environ.get("CHAOS_EXECUTOR", "django_q")
WORKFLOWS_LEASE_SECONDS = 2
WORKFLOWS_REQUEUE_SECONDS = 3
WORKFLOWS_MAX_RECOVERY_ATTEMPTS = 50
WORKFLOWS_MAX_INSTANCE_RECOVERIES = 1000
WORKFLOWS_PROGRESS_SECONDS = 0.2
globals().update(json.loads(os.environ.get("CHAOS_SETTINGS", "{}")))
