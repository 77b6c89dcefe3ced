"""What mypy reads: it knows the managers and fields of installed apps only."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTED_APPS

INSTALLED_APPS = [*TESTED_APPS, "example_project.expenses"]
