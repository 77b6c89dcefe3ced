"""``manage.py replay_declarations LOG``: a real log through the workflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.test.utils import override_settings

from example_project.expenses.people import create_people
from example_project.expenses.replay import Report, replay, replay_in_threads
from example_project.expenses.xes import Case, LogError, read_log


def positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no whole number") from error
    if number < 1:
        raise ArgumentTypeError(f"at least 1, not {number}")
    return number


class Command(BaseCommand):
    help = "Replays an XES log of declarations: one instance per case, every decision as recorded."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("log", type=Path, metavar="LOG", help="an event log, .xes or .xes.gz")
        parser.add_argument("--document", default="Declaration", help="the word that activities begin with")
        parser.add_argument("--limit", type=positive, default=None, help="stop after so many cases")
        parser.add_argument("--json", type=Path, default=None, dest="json_file", help="write the findings to a file")
        parser.add_argument(
            "--threads", type=positive, default=None, help="with the immediate executor; default: 4, on SQLite 1"
        )
        parser.add_argument("--executor", choices=("immediate", "django_q"), default="immediate")

    def handle(self, *args: Any, **options: Any) -> None:
        target = options["json_file"]
        if target is not None and not target.resolve().parent.is_dir():
            raise CommandError(f"{target}: there is no folder {target.resolve().parent}.")
        report = Report()
        broken: LogError | None = None
        try:
            self._run(options, report)
        except LogError as error:
            broken = error
        except DatabaseError as error:
            raise CommandError(f"The database refused: {error} (has `migrate` been run?)") from error
        self._write(report, target)
        if broken is not None:
            raise CommandError(str(broken))

    def _run(self, options: dict[str, Any], report: Report) -> None:
        cases: Iterator[Case] = islice(read_log(options["log"]), options["limit"])
        first = list(islice(cases, 1))  # a log that cannot be read at all is noticed before anything is written
        people = create_people()

        def all_cases() -> Iterator[Case]:
            yield from first
            yield from cases

        known: dict[str, Any] = {"people": people, "document": options["document"], "report": report}
        with override_settings(WORKFLOWS_EXECUTOR=options["executor"]):
            if options["executor"] == "immediate":
                threads = options["threads"] or (1 if connection.vendor == "sqlite" else 4)
                if threads == 1:
                    replay(all_cases(), **known)
                else:
                    replay_in_threads(all_cases(), threads=threads, **known)
                return
            with cluster() as workers:
                replay(all_cases(), patience=lambda: _wait(workers), **known)

    def _write(self, report: Report, target: Path | None) -> None:
        found = report.as_json()
        if target is not None:
            try:
                target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{target}: {error.strerror}") from error
        self.stdout.write(
            f"{report.cases} cases, {report.events} events, {report.reproduced} reproduced, "
            f"{len(report.not_reproduced)} not, {len(report.stuck)} stuck, "
            f"{report.seconds:.1f} s, {report.cases_per_second} cases/s"
        )
        for outcome, count in report.outcomes.items():
            self.stdout.write(f"  {outcome}: {count}")
        for misfit in report.not_reproduced[:20]:
            self.stdout.write(f"  {misfit['case']}, event {misfit['event']}: {misfit['reason']}")
        if len(report.not_reproduced) > 20:
            self.stdout.write(f"  … and {len(report.not_reproduced) - 20} more (--json has them all)")


def _wait(workers: subprocess.Popen[bytes]) -> None:
    if workers.poll() is not None:
        raise CommandError("The cluster has ended by itself; its log says why.")
    time.sleep(0.02)


@contextmanager
def cluster() -> Iterator[subprocess.Popen[bytes]]:
    """A real django-q2 cluster for as long as the replay takes; its whole process group ends with it."""
    manage = Path(__file__).resolve().parents[4] / "manage.py"
    environment = {**os.environ, "WORKFLOWS_EXECUTOR": "django_q"}
    workers = subprocess.Popen([sys.executable, str(manage), "qcluster"], env=environment, start_new_session=True)
    try:
        yield workers
    finally:
        workers.terminate()
        try:
            workers.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(workers.pid, signal.SIGKILL)
            workers.wait()
