"""One database, named by ``DATABASE_URL``; nothing that a measurement does not need."""

from __future__ import annotations

import os

from example_project.settings import Q_CLUSTER, database

DATABASES = {"default": {**database(os.environ["DATABASE_URL"]), "CONN_MAX_AGE": None}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "for measuring only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "guardian",
    "django_q",
    "django_workflows",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
ANONYMOUS_USER_NAME = None
GUARDIAN_MONKEY_PATCH_USER = False
GUARDIAN_MONKEY_PATCH_GROUP = False
WORKFLOWS_EXECUTOR = "immediate"
LOGGING_CONFIG = None

__all__ = ["DATABASES", "INSTALLED_APPS", "Q_CLUSTER"]
