"""``python -m example_project.demo``: two years of travel expenses in a minute, on embedded SQLite."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--limit", type=_positive, default=2000, help="how many declarations (default: 2,000)")
    parser.add_argument("--serve", action="store_true", help="then start web server, ticker and cluster")
    parser.add_argument("--port", type=_positive, default=8000)
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="keep the database in this folder")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 is needed, not {text!r}")
    return int(text)


def main() -> None:
    options = arguments()
    if options.serve and not _is_free(options.port):
        sys.exit(f"Port {options.port} of 127.0.0.1 is taken; choose another with --port.")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="workflows_demo_"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
    os.environ["EXAMPLE_DATA_DIR"] = str(folder)
    os.environ.pop("DATABASE_URL", None)
    try:
        _prepare()
        _show(_replay(options.limit))
        if options.serve:
            _serve(options.port)
        else:
            print("\nHow to go on: `tox run -e demo -- --serve` starts the web server with these declarations in it.")
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _prepare() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("workflows", "publish")


def _replay(limit: int) -> Any:
    """The population through the workflow, with a progress bar where somebody watches."""
    from django.test.utils import override_settings
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from example_project.expenses.people import create_people
    from example_project.expenses.population import generate, total
    from example_project.expenses.replay import replay

    limit = min(limit, total())
    columns = (TextColumn("Declarations"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with override_settings(WORKFLOWS_EXECUTOR="immediate"), Progress(*columns, console=Console()) as bar:
        task = bar.add_task("replay", total=limit)
        return replay(
            generate(limit), people=create_people(), progress=lambda report: bar.update(task, completed=report.cases)
        )


def _show(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    facts = Table(title="Travel expenses", show_header=False)
    facts.add_row("Declarations", f"{report.cases:,}")
    facts.add_row("Events of the log", f"{report.events:,}")
    facts.add_row("Reproduced event for event", f"{report.reproduced:,}")
    facts.add_row("Paths", f"{_paths():,}")
    facts.add_row("Instances per second", f"{report.cases_per_second:,}")
    console.print(facts)
    outcomes = Table("Outcome", "Instances", title="Outcomes")
    for outcome, count in report.outcomes.items():
        outcomes.add_row(outcome, f"{count:,}")
    console.print(outcomes)
    roles = Table("Step", "Decisions", "Median wait", title="Cycle time by role")
    for step, count, hours in _cycle_times():
        roles.add_row(step, f"{count:,}", f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours")
    console.print(roles)
    for misfit in report.not_reproduced:
        console.print(f"{misfit['case']}, event {misfit['event']}: {misfit['reason']}")


def _paths() -> int:
    """How many different ways the declarations took."""
    from django_workflows.models import Decision

    ways: dict[Any, list[str]] = defaultdict(list)
    rows = Decision.objects.order_by("decided_at", "id").values_list("task__instance", "task__step", "outcome")
    for instance, step, outcome in rows.iterator():
        ways[instance].append(f"{step}={outcome}")
    return len({tuple(way) for way in ways.values()})


def _cycle_times() -> list[tuple[str, int, float]]:
    """Step, number of decided tasks, median hours from the task's creation to its end."""
    from django_workflows.models import HumanTask

    hours: dict[str, list[float]] = defaultdict(list)
    rows = HumanTask.objects.filter(status="completed").values_list("step", "created_at", "completed_at")
    for step, created, completed in rows.iterator():
        if completed is not None:
            hours[step].append((completed - created).total_seconds() / 3600)
    return sorted(((step, len(found), statistics.median(found)) for step, found in hours.items()), key=lambda r: -r[1])


def _serve(port: int) -> None:
    """Web server and workers until Ctrl-C or SIGTERM."""
    commands = (["runserver", "--noreload", f"127.0.0.1:{port}"], ["workflows_cluster"])
    environment = {**os.environ, "WORKFLOWS_EXECUTOR": "django_q", "DEBUG": "1"}
    parts = [
        subprocess.Popen([sys.executable, str(MANAGE), *command], env=environment, start_new_session=True)
        for command in commands
    ]
    print(f"\nhttp://127.0.0.1:{port}/admin/  (Ctrl-C stops it)")
    print("Log in as admin, employee1, administration1, supervisor1 or payment-office1; the password is demo.")
    stop = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while all(part.poll() is None for part in parts):
            time.sleep(0.3)
    except KeyboardInterrupt:
        print("Stopping.")
    finally:
        signal.signal(signal.SIGTERM, stop)
        for part in parts:
            part.terminate()
        for part in parts:
            try:
                part.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(part.pid, signal.SIGKILL)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
