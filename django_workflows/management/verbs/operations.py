"""``workflows doctor|prune|incidents|resolve``: for the people who run the system."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_workflows import services
from django_workflows.engine.doctor import Finding
from django_workflows.models import Incident
from django_workflows.services.incidents import ACTIONS

from .base import Options, actor, add_by, add_json, add_watch, one, repeated, short, user_named, write_json


def add_parsers(verbs: Any) -> None:
    doctor = verbs.add_parser("doctor", help="find what is stuck, lost, drifted or orphaned")
    doctor.add_argument("instance", nargs="?", default="", help="only this one: id or business key")
    doctor.add_argument("--workflow", default="", metavar="NAME")
    doctor.add_argument("--live", action="store_true", help="leave out instances that have ended")
    doctor.add_argument("--repair", action="store_true", help="mend what can be mended safely")
    add_json(doctor)
    prune = verbs.add_parser("prune", help="delete ended instances whose retention is over")
    prune.add_argument("--older-than", default=None, metavar="DURATION", help="instead of every retention: 90d, 1w …")
    prune.add_argument("--workflow", default="", metavar="NAME")
    prune.add_argument("--batch", type=int, default=200, help="instances per transaction (200)")
    prune.add_argument("--max-batches", type=int, default=None, metavar="N", help="stop after so many")
    prune.add_argument("--dry-run", action="store_true", help="count only")
    add_by(prune)
    add_json(prune)
    incidents = verbs.add_parser("incidents", help="open incidents, by cause")
    incidents.add_argument("--workflow", default="", metavar="NAME")
    add_json(incidents)
    add_watch(incidents)
    person = verbs.add_parser("pseudonymize", help="take a person's name out of what has ended")
    person.add_argument("user")
    person.add_argument("--as", default="", dest="pseudonym", metavar="NAME", help="default: person-<random>")
    add_by(person)
    add_json(person)
    _add_resolve(verbs)


def _add_resolve(verbs: Any) -> None:
    resolve = verbs.add_parser("resolve", help="see to every open incident of one cause")
    resolve.add_argument("fingerprint", help="as `workflows incidents` shows it")
    resolve.add_argument("action", choices=ACTIONS)
    resolve.add_argument("--reason", default="", help="kept in the history")
    resolve.add_argument("--data", default="", metavar="JSON", help="with retry: keys of the data to set first")
    resolve.add_argument("--output", default="", metavar="JSON", help="with skip: the output of the step")
    resolve.add_argument("--outcome", default="", help="with skip: the outcome of the step")
    resolve.add_argument("--limit", type=int, default=1000, help="at most so many at once (1000)")
    resolve.add_argument("--dry-run", action="store_true", help="count only")
    add_by(resolve)
    add_json(resolve)


def doctor(command: BaseCommand, options: Options) -> None:
    """Exit status 1 while anything is left that was not mended."""
    instance_id = one(options["instance"], {}).pk if options["instance"] else None
    left, written = 0, []
    found = services.examine(
        by=services.SYSTEM, workflow=options["workflow"], instance_id=instance_id, live_only=options["live"]
    )
    for finding in found:
        mended = options["repair"] and finding.repair()
        left += not mended
        written.append(_facts(finding, mended))
        if not options["as_json"]:
            _write(command, finding, mended)
    if options["as_json"]:
        write_json(command, {"findings": written, "left": left})
    elif not written:
        command.stdout.write("Nothing is stuck, lost, drifted or orphaned.")
    else:
        command.stdout.write(f"{len(written)} finding(s), {len(written) - left} mended.")
    if left:
        sys.exit(1)


def _facts(finding: Finding, mended: bool) -> dict[str, Any]:
    facts = {name: getattr(finding, name) for name in ("kind", "instance_id", "place", "message", "advice")}
    return {**facts, "can_be_mended": finding.mend is not None, "mended": mended}


def _write(command: BaseCommand, finding: Finding, mended: bool) -> None:
    where = f"{finding.instance_id}, {finding.place}" if finding.instance_id else finding.place
    mark = "mended" if mended else ("can be mended by --repair" if finding.mend is not None else "for a person")
    command.stdout.write(f"{finding.kind:<9} {where}\n          {finding.message} {finding.advice} [{mark}]")


def prune(command: BaseCommand, options: Options) -> None:
    report = services.prune(
        by=actor(options),
        older_than=options["older_than"],
        workflow=options["workflow"],
        batch=options["batch"],
        max_batches=options["max_batches"],
        dry_run=options["dry_run"],
    )
    facts = {"deleted": report.deleted, "protected": report.protected, "batches": report.batches}
    if options["as_json"]:
        write_json(command, {**facts, "dry_run": options["dry_run"]})
        return
    verb = "would be deleted" if options["dry_run"] else "deleted"
    kept = f"; {report.protected} kept, for rows of the project point to them" if report.protected else ""
    command.stdout.write(f"{report.deleted} instance(s) {verb}{kept}.")


def pseudonymize(command: BaseCommand, options: Options) -> None:
    person = user_named(options["user"])
    changed, left = services.pseudonymize(person, by=actor(options), pseudonym=options["pseudonym"])
    if options["as_json"]:
        write_json(command, {"changed": changed, "left": left})
    else:
        command.stdout.write(f"{changed} instance(s) changed; {left} still live and are left as they are.")


def incidents(command: BaseCommand, options: Options) -> None:
    def show() -> bool:
        causes = _causes(options["workflow"])
        if options["as_json"]:
            write_json(command, causes)
            return False
        for cause in causes:
            command.stdout.write(
                f"{cause['open']:>6}  {cause['workflow']}.{cause['step']}  {cause['kind']} {cause['error_type']}\n"
                f"        {cause['message'][:150]}\n        {cause['suggested_action']}\n"
                f"        since {short(cause['first_at'])}, last {short(cause['last_at'])}; {cause['fingerprint']}"
            )
        command.stdout.write(f"{len(causes)} cause(s).")
        return False

    repeated(options, show)


def _causes(workflow: str) -> list[dict[str, Any]]:
    rows = Incident.objects.open().by_cause()
    if workflow:
        rows = rows.filter(instance__workflow=workflow)
    return list(rows)


def resolve(command: BaseCommand, options: Options) -> None:
    report = services.resolve_all(
        options["fingerprint"],
        options["action"],
        by=actor(options),
        limit=options["limit"],
        dry_run=options["dry_run"],
        reason=options["reason"],
        data=_json(options, "data"),
        output=_json(options, "output"),
        outcome=options["outcome"],
    )
    if options["as_json"]:
        write_json(command, {"found": report.found, "done": report.done, "refused": report.refused})
    else:
        for key, why in report.refused:
            command.stdout.write(f"{key}  {why}")
        command.stdout.write(f"{report.found} incident(s) found, {report.done} resolved.")
    if report.refused:
        sys.exit(1)


def _json(options: Options, name: str) -> Any:
    if not options[name]:
        return None
    try:
        return json.loads(options[name])
    except ValueError as error:
        raise CommandError(f"--{name} is no JSON: {error}") from error
