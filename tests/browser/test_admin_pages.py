"""Real pages in headless Chromium: ``tox run -e browser``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from django_workflows import approval, end, group, machine, services
from django_workflows.models import HumanTask, Incident, WorkflowInstance
from django_workflows.testing import run_jobs

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


def refuses(ctx: Any) -> str:
    if not ctx.get("iban"):
        raise ValueError("the account has no IBAN, and the bank's gateway wants one: " + "x" * 120)
    return str(ctx.get("iban"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_incident_is_resolved_for_all_of_its_cause(
    page: Any, live_server: Any, make_user: Any, make_workflow: Any, scheme: str, width: int
) -> None:
    make_user("root", is_staff=True, is_superuser=True)
    workflow = make_workflow(name="payments", pay=machine(refuses, timeout="30s"), done=end("paid"))
    services.publish(workflow, by=services.SYSTEM)
    for number in range(3):
        services.start(workflow, by=services.SYSTEM, business_key=f"2026-{number}")
    run_jobs()
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    log_in(page, live_server, "root")
    page.goto(f"{live_server.url}/admin/django_workflows/incident/")
    shot(page, f"incidents-{scheme}-{width}")
    page.goto(f"{live_server.url}/admin/django_workflows/incident/{Incident.objects.all()[0].pk}/change/")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    shot(page, f"incident-{scheme}-{width}")
    page.goto(
        f"{live_server.url}/admin/django_workflows/workflowinstance/{WorkflowInstance.objects.all()[0].pk}/change/"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    shot(page, f"instance-{scheme}-{width}")
    page.go_back()

    page.focus("#id_retry_data")
    page.keyboard.type('{"iban": "NL91"}')
    page.locator("input[name=everywhere]").first.focus()
    page.keyboard.press("Space")
    with page.expect_navigation():
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    shot(page, f"resolved-{scheme}-{width}")
    run_jobs()

    assert "3 of 3" in page.inner_text(".messagelist")
    assert set(WorkflowInstance.objects.values_list("status", flat=True)) == {"completed"}


def shot(page: Any, name: str) -> None:
    """A picture to be looked at, if ``SCREENSHOTS`` names a folder for it."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


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
