"""``workflows definitions|publish|validate|graph``: definitions at the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_workflows import registry, services
from django_workflows.core.codec import dumps, loads
from django_workflows.core.drawing import dot, mermaid, svg
from django_workflows.core.validation import Problem, validate
from django_workflows.exceptions import InvalidDefinition, WorkflowError
from django_workflows.models import WorkflowDefinition

from .base import Options, add_json

SUFFIXES = (".json", ".yaml", ".yml")


def add_parsers(verbs: Any) -> None:
    listing = verbs.add_parser("definitions", help="the stored definitions")
    add_json(listing)
    publishing = verbs.add_parser("publish", help="publish the code's workflows, or definitions from files")
    publishing.add_argument("files", nargs="*", type=Path)
    checking = verbs.add_parser("validate", help="look for problems in files or folders (JSON or YAML)")
    checking.add_argument("files", nargs="+", type=Path)
    checking.add_argument("--strict", action="store_true", help="warnings fail too")
    add_json(checking)
    drawing = verbs.add_parser("graph", help="draw a stored definition")
    drawing.add_argument("name")
    drawing.add_argument("--at", default="", metavar="VERSION", help="a version; default: the newest")
    drawing.add_argument("--as", choices=("mermaid", "dot", "svg", "json"), default="mermaid", dest="form")


def definitions(command: BaseCommand, options: Options) -> None:
    fields = ("name", "version", "status", "title")
    rows = list(WorkflowDefinition.objects.newest_first().values(*fields))
    if options["as_json"]:
        command.stdout.write(json.dumps(rows, indent=2))
        return
    for row in rows:
        command.stdout.write(f"{row['name']:<30} {row['version']:<10} {row['status']:<10} {row['title']}")


def publish(command: BaseCommand, options: Options) -> None:
    rows = [services.publish(path.read_bytes(), by=services.SYSTEM) for path in _files(options["files"])]
    if not options["files"]:
        rows = [services.publish(workflow, by=services.SYSTEM) for workflow in registry.workflows()]
    for row in rows:
        command.stdout.write(f"{row} is {row.status}.")


def check(command: BaseCommand, options: Options) -> None:
    found = {str(path): _problems(path) for path in _files(options["files"])}
    if options["as_json"]:
        command.stdout.write(json.dumps({path: [_facts(p) for p in problems] for path, problems in found.items()}))
    else:
        for path, problems in found.items():
            for problem in problems:
                command.stdout.write(f"{path}: {problem.severity}: {problem}")
    bad = ("error", "warning") if options["strict"] else ("error",)
    if any(problem.severity in bad for problems in found.values() for problem in problems):
        sys.exit(1)
    if not options["as_json"]:
        command.stdout.write(f"{len(found)} definition(s) looked at, nothing wrong.")


def graph(command: BaseCommand, options: Options) -> None:
    rows = WorkflowDefinition.objects.filter(name=options["name"]).newest_first()
    row = (rows.filter(version=options["at"]) if options["at"] else rows).first()
    if row is None:
        raise CommandError(f"There is no definition {options['name']} {options['at']}".rstrip() + ".")
    definition = services.read(row.content)
    draw: Any = {"mermaid": mermaid, "dot": dot, "svg": svg, "json": dumps}[options["form"]]
    command.stdout.write(draw(definition))


def _files(paths: list[Path]) -> list[Path]:
    """The files themselves, and every definition below the folders."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES)
        else:
            found.append(path)
    return found


def _problems(path: Path) -> list[Problem]:
    try:
        definition = loads(path.read_bytes())
    except InvalidDefinition as error:
        return list(error.problems)
    except WorkflowError as error:
        facts = error.facts
        return [
            Problem(
                code=error.code,
                message=error.message,
                line=facts.get("line", 0),
                column=facts.get("column", 0),
            )
        ]
    missing = [
        Problem(code="unknown_function", place=place, message=f"no code has registered a function {name!r}")
        for place, name in registry.function_references(definition)
        if not registry.has_function(name)
    ]
    return [*validate(definition), *missing]


def _facts(problem: Problem) -> dict[str, Any]:
    names = ("code", "severity", "place", "line", "column", "message", "suggestion")
    return {name: getattr(problem, name) for name in names}
