"""``workflows list|show|log|cancel|retry|pause|resume|hold|release``: instances at the command line."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_workflows import services
from django_workflows.conf import settings
from django_workflows.core.masking import mask
from django_workflows.engine.loader import sensitive_of
from django_workflows.exceptions import WorkflowError
from django_workflows.listeners import masked
from django_workflows.models import StepExecution, WorkflowEvent, WorkflowInstance
from django_workflows.states import StepStatus

from .base import (
    Options,
    Verb,
    actor,
    add_by,
    add_choice,
    add_filters,
    add_json,
    add_watch,
    chosen,
    filtered,
    one,
    repeated,
    short,
    write_json,
)

FIELDS = ("id", "workflow", "status", "outcome", "business_key", "title", "started_at", "completed_at")


def add_parsers(verbs: Any) -> None:
    listing = verbs.add_parser("list", help="instances, the newest first")
    add_filters(listing)
    listing.add_argument("--limit", type=int, default=50, help="at most so many (50)")
    add_json(listing)
    add_watch(listing)
    for name, text in (("show", "one instance with its steps, tasks and incidents"), ("log", "its history")):
        parser = verbs.add_parser(name, help=text)
        parser.add_argument("instance", help="id or business key")
        add_json(parser)
        add_watch(parser)
    _add_bulk(verbs, "cancel", "end instances").add_argument("--force", action="store_true", help="steps at work too")
    verbs.choices["cancel"].add_argument("--wait", default=None, metavar="DURATION", help="wait for the end")
    retry = _add_bulk(verbs, "retry", "try failed steps again")
    retry.add_argument("--step", default="", help="only this step")
    retry.add_argument("--data", default="", metavar="JSON", help="keys of the data to set first")
    for name, text in (
        ("pause", "start no new step"),
        ("resume", "go on after a pause"),
        ("hold", "put under legal hold: never deleted"),
        ("release", "lift the legal hold"),
    ):
        _add_bulk(verbs, name, text)


def _add_bulk(verbs: Any, name: str, text: str) -> ArgumentParser:
    parser: ArgumentParser = verbs.add_parser(name, help=text)
    add_choice(parser)
    parser.add_argument("--reason", default="", help="kept in the history")
    add_by(parser)
    add_json(parser)
    add_watch(parser)
    return parser


# reading


def list_(command: BaseCommand, options: Options) -> None:
    def show() -> bool:
        rows = list(filtered(options).order_by("-started_at", "-pk").values(*FIELDS)[: options["limit"]])
        if options["as_json"]:
            write_json(command, rows)
            return False
        for row in rows:
            name = row["title"] or row["business_key"]
            command.stdout.write(
                f"{row['id']}  {row['status']:<9}  {row['workflow']:<24}  {short(row['started_at'])}  {name}"
            )
        command.stdout.write(f"{len(rows)} instance(s).")
        return False

    repeated(options, show)


def show(command: BaseCommand, options: Options) -> None:
    def once() -> bool:
        row = one(options["instance"], options)
        facts = facts_of(row)
        if options["as_json"]:
            write_json(command, facts)
        else:
            _write(command, facts)
        return row.is_ended

    repeated(options, once)


def facts_of(row: WorkflowInstance) -> dict[str, Any]:
    """Everything about an instance that may be shown, sensitive values hidden."""
    hidden = (*settings.SENSITIVE_KEYS, *_sensitive(row))
    steps = row.step_executions.order_by("index").values(
        "step", "occurrence", "step_type", "status", "outcome", "attempt", "interruptions", "next_attempt_at",
        "error", "worker", "progress", "started_at", "completed_at",
    )  # fmt: skip
    incidents = row.incidents.open().values("id", "step", "kind", "message", "count", "suggested_action", "fingerprint")
    tasks = row.human_tasks.open().values("id", "step", "title", "status", "assignee_name", "due_at")
    return {
        **{name: getattr(row, name) for name in FIELDS},
        "version": row.state.get("version", ""),
        "initiator": row.initiator_name,
        "error": row.error,
        "cancel_requested_at": row.cancel_requested_at,
        "legal_hold": row.legal_hold,
        "data": mask(row.data, hidden),
        "steps": list(steps),
        "tasks": list(tasks),
        "incidents": list(incidents),
    }


def _sensitive(row: WorkflowInstance) -> tuple[str, ...]:
    """The keys to hide; all of them where the definition cannot be read, for then nobody knows."""
    found = sensitive_of(row.definition_id)
    return tuple(row.data) if found is None else found


def _write(command: BaseCommand, facts: dict[str, Any]) -> None:
    out = command.stdout.write
    for name in ("id", "workflow", "version", "status", "outcome", "business_key", "title", "initiator", "error"):
        if facts[name]:
            out(f"{name.replace('_', ' '):<13} {facts[name]}")
    for name in ("started_at", "completed_at", "cancel_requested_at"):
        if facts[name]:
            out(f"{name.replace('_', ' '):<13} {short(facts[name])}")
    if facts["legal_hold"]:
        out("legal hold    yes")
    for step in facts["steps"]:
        key = f"{step['step']}#{step['occurrence']}"
        out(f"  {key:<16} {step['step_type']:<9} {step['status']:<10} {_more(step)}".rstrip())
    for task in facts["tasks"]:
        out(f"  task      {task['title']} ({task['assignee_name'] or task['status']})")
    for incident in facts["incidents"]:
        out(f"  incident  {incident['kind']}: {incident['message']} -> {incident['suggested_action']}")


def _more(step: dict[str, Any]) -> str:
    parts = [step["outcome"]] if step["outcome"] else []
    if step["attempt"] > 1:
        parts.append(f"attempt {step['attempt']}")
    if step["next_attempt_at"]:
        parts.append(f"again at {short(step['next_attempt_at'])}")
    if step["progress"] and step["status"] == StepStatus.RUNNING:
        parts.append(f"{step['progress']['fraction']:.0%} {step['progress']['text']}")
    if step["error"] and step["status"] in (StepStatus.FAILED, StepStatus.WAITING):
        parts.append(step["error"].splitlines()[0][:100])
    return ", ".join(parts)


def log(command: BaseCommand, options: Options) -> None:
    seen = 0

    def once() -> bool:
        nonlocal seen
        row = one(options["instance"], options)
        sensitive = _sensitive(row)
        lines = [masked(line, sensitive) for line in WorkflowEvent.objects.of(row).after(seen)]
        if options["as_json"] and not options["watch"]:
            write_json(command, [_line(line) for line in lines])
        for line in lines:
            seen = line.sequence
            if options["as_json"] and options["watch"]:
                command.stdout.write(json.dumps(_line(line), default=str, ensure_ascii=False))
            elif not options["as_json"]:
                command.stdout.write(_text(line))
        return row.is_ended

    repeated(options, once)


LINE = ("sequence", "name", "at", "step", "occurrence", "attempt", "outcome", "duration", "actor_name", "payload")


def _line(line: WorkflowEvent) -> dict[str, Any]:
    return {name: getattr(line, name) for name in LINE}


def _text(line: WorkflowEvent) -> str:
    parts = [line.key, line.outcome, f"attempt {line.attempt}" if line.attempt > 1 else ""]
    parts += [str(line.payload.get(name, "")) for name in ("text", "reason", "error", "message")]
    more = ", ".join(part for part in parts if part)
    return f"{line.sequence:>5}  {short(line.at)}  {line.name:<24} {line.actor_name:<12} {more}"[:200].rstrip()


# acting


def cancel(command: BaseCommand, options: Options) -> None:
    by, extra = actor(options), {"wait": options["wait"], "force": options["force"]}
    _each(command, options, lambda row: services.cancel(row, by=by, reason=options["reason"], **extra))


def _with_reason(verb: Callable[..., WorkflowInstance]) -> Verb:
    """A verb of the command line that takes nothing but a reason."""

    def act(command: BaseCommand, options: Options) -> None:
        by = actor(options)
        _each(command, options, lambda row: verb(row, by=by, reason=options["reason"]))

    return act


pause = _with_reason(services.pause)
resume = _with_reason(services.resume)
hold = _with_reason(services.hold)
release = _with_reason(services.lift_hold)


def retry(command: BaseCommand, options: Options) -> None:
    by, data = actor(options), _json_object(options["data"])

    def again(row: WorkflowInstance) -> WorkflowInstance:
        steps = StepExecution.objects.filter(instance=row, status=StepStatus.FAILED).open()
        steps = steps.filter(step=options["step"]) if options["step"] else steps
        failed = list(steps.order_by("index"))
        if not failed:
            raise CommandError("It has no failed step.")
        for execution in failed:
            row = services.retry_step(execution, by=by, data=data)
        return row

    _each(command, options, again)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise CommandError(f"--data is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CommandError('--data is a JSON object, such as \'{"iban": "NL91"}\'.')
    return found


def _each(command: BaseCommand, options: Options, act: Callable[[WorkflowInstance], WorkflowInstance]) -> None:
    """Act on every chosen instance; what is refused is told, holds up nothing, and ends with status 1."""
    results = []
    for row in chosen(options):
        try:
            done = act(row)
        except (WorkflowError, CommandError) as error:
            results.append({"id": str(row.pk), "status": row.status, "refused": str(error)})
        else:
            results.append({"id": str(done.pk), "status": str(done.status), "refused": ""})
    if options["watch"]:
        _until_ended(command, results, options)
    elif options["as_json"]:
        write_json(command, results)
    else:
        _write_results(command, results)
    if any(result["refused"] for result in results):
        sys.exit(1)


def _write_results(command: BaseCommand, results: list[dict[str, Any]]) -> None:
    for result in results:
        command.stdout.write(f"{result['id']}  {result['refused'] or result['status']}")


def _until_ended(command: BaseCommand, results: list[dict[str, Any]], options: Options) -> None:
    """Show what becomes of the instances until all have ended; as JSON, only their end."""

    def once() -> bool:
        rows = {str(row.pk): row for row in WorkflowInstance.objects.filter(pk__in=[r["id"] for r in results])}
        before = [dict(result) for result in results]
        for result in results:
            result["status"] = str(rows[result["id"]].status) if result["id"] in rows else "deleted"
        over = all(row.is_ended for row in rows.values())
        if options["as_json"] and over:
            write_json(command, results)
        elif not options["as_json"] and (over or results != before):
            _write_results(command, results)
        return over

    repeated(options, once)
