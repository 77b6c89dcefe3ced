"""The database under test, and which tests belong to which."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings
from django.db import connections

from tests.postgres import temp_postgres
from tests.settings import SQLITE, database

pytest_plugins = ["tests.fixtures"]

TESTS = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# A shared machine is sometimes slow; that is no failure of the property.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@contextmanager
def sqlite_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sqlite_") as folder:
        yield f"{SQLITE}{folder}/test.sqlite3"


@contextmanager
def postgres_url() -> Iterator[str]:
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with temp_postgres() as server:
        yield server.url


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="what to test on; postgres is $DATABASE_URL, or a throw-away server",
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker of xdist: its settings have read what we hand over below
    chosen = {"sqlite": sqlite_url, "postgres": postgres_url}[config.getoption("database")]
    resources = ExitStack()
    config.add_cleanup(resources.close)
    url = resources.enter_context(chosen())
    os.environ["DATABASE_URL"] = url
    _switch_to(database(url))


def _switch_to(chosen: dict[str, Any]) -> None:
    """Without workers it is this process that tests, and Django was set up before our option was read."""
    settings.DATABASES["default"] = chosen
    connections.settings.update(connections.configure_settings(settings.DATABASES))
    connections["default"].close()
    del connections["default"]


def pytest_report_header() -> str:
    return f"database: {os.environ['DATABASE_URL']}"


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing: dict[str, str] = {}
    if config.getoption("database") == "sqlite":
        missing["postgres"] = "needs --database postgres"
    if not any(map(shutil.which, BROWSERS)):
        missing["browser"] = "needs Chromium, for example Debian's package"
    for item in items:
        if item.path.is_relative_to(TESTS / "core"):
            item.add_marker("core")
        for mark, reason in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
