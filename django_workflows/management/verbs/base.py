"""What the verbs share: who acts, which instances are meant, and how the answer is written."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from django_workflows import services
from django_workflows.engine.locking import uuid_of
from django_workflows.models import WorkflowInstance
from django_workflows.states import InstanceStatus

Options = dict[str, Any]
Verb = Callable[[BaseCommand, Options], None]


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", dest="as_json", help="write JSON, for machines")


def add_watch(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="look again every so many seconds (2), until Ctrl-C, or until the instance has ended",
    )


def add_by(parser: ArgumentParser) -> None:
    parser.add_argument("--by", default="", metavar="USER", help="act as this user; default: the system")


def add_choice(parser: ArgumentParser) -> None:
    """Which instances: by key, or by what they have in common."""
    parser.add_argument("instances", nargs="*", metavar="INSTANCE", help="ids or business keys")
    add_filters(parser)
    parser.add_argument("--limit", type=int, default=1000, help="at most so many at once (1000)")


def add_filters(parser: ArgumentParser) -> None:
    parser.add_argument("--workflow", default="", metavar="NAME")
    parser.add_argument("--status", choices=InstanceStatus.values, default="")
    parser.add_argument("--incident", default="", metavar="FINGERPRINT", help="with an open incident of this cause")


def _seconds(text: str) -> float:
    found = float(text)
    if not 0 < found < 86_400:
        raise ValueError(text)
    return found


def actor(options: Options) -> Any:
    """Who acts; ``CommandError`` for a user that does not exist."""
    return user_named(options["by"]) if options["by"] else services.SYSTEM


def user_named(name: str) -> Any:
    users = get_user_model()
    user = users._default_manager.filter(**{users.USERNAME_FIELD: name}).first()
    if user is None:
        raise CommandError(f"There is no user {name!r}.")
    return user


def filtered(options: Options) -> Any:
    rows = WorkflowInstance.objects.all()
    if options["workflow"]:
        rows = rows.of(options["workflow"])
    if options["status"]:
        rows = rows.filter(status=options["status"])
    if options["incident"]:
        rows = rows.filter(incidents__fingerprint=options["incident"], incidents__status="open").distinct()
    return rows


def chosen(options: Options) -> list[WorkflowInstance]:
    """The instances that the command line means; ``CommandError`` if it means none in particular."""
    if options["instances"]:
        return [one(text, options) for text in options["instances"]]
    if not (options["workflow"] or options["status"] or options["incident"]):
        raise CommandError("Name instances, or choose them by --workflow, --status or --incident.")
    return list(filtered(options).order_by("started_at", "pk")[: options["limit"]])


def one(text: str, options: Options) -> WorkflowInstance:
    """The instance with this id, or the only one with this business key."""
    rows = filtered(options) if "workflow" in options else WorkflowInstance.objects.all()
    key = uuid_of(text)
    found = list(rows.filter(pk=key) if key is not None else rows.filter(business_key=text)[:2])
    if len(found) != 1:
        what = "Several instances have the business key" if found else "There is no instance"
        raise CommandError(f"{what} {text!r}{'; use its id' if found else ''}.")
    return found[0]


def write_json(command: BaseCommand, value: Any) -> None:
    command.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)


def repeated(options: Options, show: Callable[[], bool]) -> None:
    """Show once, or with ``--watch`` again and again until ``show`` tells that it is over."""
    while not show() and options["watch"]:
        time.sleep(options["watch"])


def short(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""
