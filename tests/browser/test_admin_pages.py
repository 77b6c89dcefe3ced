"""Real pages in headless Chromium: ``tox run -e browser``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from django_workflows import approval, end, group
from django_workflows.models import HumanTask, WorkflowInstance

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FORM = {"type": "object", "properties": {"amount": {"type": "number", "minimum": 1}}, "required": ["amount"]}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture
def page() -> Iterator[Any]:
    # the synchronous interface of playwright runs a loop in this thread, which Django would object to
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with playwright.sync_playwright() as driver:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=QUIET)
        yield browser.new_page()
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def log_in(page: Any, server: Any, name: str) -> None:
    page.goto(f"{server.url}/admin/")
    page.fill("#id_username", name)
    page.fill("#id_password", "secret")
    with page.expect_navigation():
        page.keyboard.press("Enter")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_task_is_decided_by_keyboard_alone_with_an_error_first(
    page: Any, live_server: Any, make_user: Any, make_instance: Any, scheme: str, width: int
) -> None:
    make_user("maria", "managers", is_staff=True)
    make_instance(ask=approval(assign=group("managers"), form=FORM, due="3d"), done=end("done"))
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    log_in(page, live_server, "maria")
    page.goto(f"{live_server.url}/admin/django_workflows/humantask/?mine=inbox")
    page.locator("#result_list tbody th a").focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")

    page.focus("#id_field-amount")
    page.keyboard.type("0")
    page.locator("button[value=approved]").focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "less than the minimum" in page.inner_text(".wf-field-errors")
    page.focus("#id_field-amount")
    page.keyboard.press("Control+a")
    page.keyboard.type("12")
    page.locator("button[value=approved]").focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")

    assert HumanTask.objects.get().outcome == "approved"


def test_an_instance_is_looked_at_and_canceled(page: Any, live_server: Any, make_user: Any, make_instance: Any) -> None:
    make_user("root", is_staff=True, is_superuser=True)
    make_user("maria", "managers")
    instance = make_instance(ask=approval(assign=group("managers")), done=end("done"))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    log_in(page, live_server, "root")

    page.goto(f"{live_server.url}/admin/django_workflows/workflowinstance/{instance.pk}/change/")
    assert page.locator("svg.wf-drawing .wf-current").count() == 1
    page.locator("summary", has_text="Cancel").click()
    page.fill("#id_cancel_reason", "not needed")
    with page.expect_navigation():
        page.locator("button", has_text="Cancel this instance").click()

    assert WorkflowInstance.objects.get().status == "canceled"
    assert "Canceled" in page.inner_text(".wf-card")
    assert errors == []
