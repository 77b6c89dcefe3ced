"""``manage.py workflows``: definitions, instances and operations at the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from django_workflows.exceptions import WorkflowError
from django_workflows.management.verbs import definitions, instances, operations
from django_workflows.management.verbs.base import Verb

VERBS: Final[dict[str, Verb]] = {
    "definitions": definitions.definitions,
    "publish": definitions.publish,
    "validate": definitions.check,
    "graph": definitions.graph,
    "list": instances.list_,
    "show": instances.show,
    "log": instances.log,
    "cancel": instances.cancel,
    "retry": instances.retry,
    "pause": instances.pause,
    "resume": instances.resume,
    "hold": instances.hold,
    "release": instances.release,
    "incidents": operations.incidents,
    "resolve": operations.resolve,
    "doctor": operations.doctor,
    "prune": operations.prune,
    "pseudonymize": operations.pseudonymize,
}


class Command(BaseCommand):
    help = "Definitions, instances and incidents: lists, shows, acts on and examines them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for room in (instances, operations, definitions):
            room.add_parsers(verbs)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            VERBS[options["verb"]](self, options)
        except (WorkflowError, OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stderr.write("")  # the end of --watch
