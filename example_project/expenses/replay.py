"""Replaying a log: one instance per case, and at every open task the decision that the log records.

The log tells who looked at a declaration, but not that somebody sent it to them. Whom an employee or an
approver chose as the next is therefore read off the event that follows; everything else is taken as it
stands. Nothing is forced: the first event that does not fit ends the case, and is reported.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

from django.db import connections
from django.db.models import Exists, OuterRef

from django_workflows import services
from django_workflows.core.durations import parse_duration
from django_workflows.core.steps import HumanStep
from django_workflows.engine.clock import clock
from django_workflows.engine.loader import definition_for
from django_workflows.engine.timers import fire_due
from django_workflows.exceptions import WorkflowError
from django_workflows.models import HumanTask, Timer, WorkflowInstance
from django_workflows.states import InstanceStatus, TimerStatus

from .people import PAYMENT_OFFICE, ROLES, People
from .workflows import LADDER, TravelExpense
from .xes import Case, Event

T = TypeVar("T")
IN_FLIGHT = 100


class DoesNotFit(Exception):
    """The log says what the workflow does not allow at this point."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a replay found; ``seconds`` includes everything but starting up."""

    cases: int = 0
    events: int = 0
    reproduced: int = 0
    not_reproduced: list[dict[str, Any]] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def cases_per_second(self) -> float:
        return round(self.cases / self.seconds, 1) if self.seconds else 0.0

    def add(self, part: Report) -> None:
        """Take over what a part of the replay has found."""
        self.cases += part.cases
        self.events += part.events
        self.reproduced += part.reproduced
        self.not_reproduced += part.not_reproduced
        self.stuck += part.stuck
        self.outcomes = dict((Counter(self.outcomes) + Counter(part.outcomes)).most_common())

    def as_json(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "events": self.events,
            "reproduced": self.reproduced,
            "not_reproduced": self.not_reproduced,
            "stuck": self.stuck,
            "outcomes": self.outcomes,
            "seconds": round(self.seconds, 3),
            "cases_per_second": self.cases_per_second,
        }


@dataclass(frozen=True, slots=True)
class Move:
    """What an event of the log asks for: an outcome at one of these steps, by somebody of a group."""

    outcomes: dict[str, str]
    group: str = ""
    forwards: bool = False


def moves(document: str) -> dict[str, Move]:
    """Activity -> what it asks for. ``SAVED`` can only begin a case."""
    by_employee = {"draft": "submitted", "rework": "resubmitted", "revise": "resubmitted"}
    found = {
        f"{document} SUBMITTED by EMPLOYEE": Move(by_employee, forwards=True),
        f"{document} REJECTED by EMPLOYEE": Move({"draft": "withdrawn", "rework": "taken_back", "recall": "recalled"}),
        f"{document} REJECTED by MISSING": Move({"release": "rejected", "settle": "rejected"}, PAYMENT_OFFICE),
        "Request Payment": Move({"release": "released"}, PAYMENT_OFFICE),
        "Payment Handled": Move({"settle": "settled"}, PAYMENT_OFFICE),
    }
    for role, (group, step) in ROLES.items():
        found[f"{document} APPROVED by {role}"] = Move({step: "approved"}, group, forwards=True)
        found[f"{document} FINAL_APPROVED by {role}"] = Move({step: "final_approved"}, group)
        found[f"{document} REJECTED by {role}"] = Move({step: "rejected"}, group)
    return found


class Follower:
    """Follows one case. ``steps()`` yields whenever a machine step has to be waited for."""

    def __init__(self, case: Case, document: str, people: People, table: dict[str, Move]) -> None:
        self.case, self.document, self.people, self.table = case, document, people, table
        self.instance: WorkflowInstance | None = None
        self.misfit: dict[str, Any] | None = None

    def steps(self) -> Iterator[None]:
        for number, event in enumerate(self.case.events):
            try:
                yield from self._follow(number, event)
            except (DoesNotFit, WorkflowError) as reason:
                self.misfit = {
                    "case": self.case.id,
                    "event": f"{number + 1}: {event.activity} ({event.at.isoformat()})",
                    "reason": str(reason),
                }
                return

    def _follow(self, number: int, event: Event) -> Iterator[None]:
        if number == 0:
            self._start(event)
            if event.activity == f"{self.document} SAVED by EMPLOYEE":
                return
        yield from self._settled()
        self._fire_due(event.at)
        self._decide(number, event)
        if event.activity in ("Request Payment", "Payment Handled"):
            yield from self._settled()
            self._check_payment(event)

    def _start(self, event: Event) -> None:
        begins = (f"{self.document} SUBMITTED by EMPLOYEE", f"{self.document} SAVED by EMPLOYEE")
        if event.activity not in begins:
            raise DoesNotFit(f"A case begins with {begins[0]!r} or {begins[1]!r}.")
        data = {"number": self.case.number, "amount": max(0.0, self.case.amount or 0.0)}
        with at(event.at):
            self.instance = services.start(TravelExpense, by=self.people.employee(self.case.id), data=data)

    def _settled(self) -> Iterator[None]:
        """Wait until no machine step is at work any more."""
        while self._row.status == InstanceStatus.RUNNING:
            self._row.refresh_from_db(fields=("status", "outcome", "state", "definition"))
            if self._row.status == InstanceStatus.RUNNING:
                yield

    @property
    def _row(self) -> WorkflowInstance:
        if self.instance is None:
            raise DoesNotFit("The case has not begun.")
        return self.instance

    def _open(self) -> dict[str, str]:
        """Open human step -> key of its task, read off the token state."""
        state = self._row.state
        return {token["step"]: state["ids"][key] for key, token in state["tokens"].items() if "task" in token}

    def _decide(self, number: int, event: Event) -> None:
        move = self.table.get(event.activity)
        if move is None:
            raise DoesNotFit(f"The workflow knows no activity {event.activity!r}.")
        tasks = self._open()
        step = next((name for name in move.outcomes if name in tasks), None)
        if step is None:
            raise DoesNotFit(f"{event.activity!r} is not possible: {self._standing(tasks)}.")
        form = {"forward_to": self._next_role(number, step)} if move.forwards else {}
        by = self.people.of(move.group, self.case.id) if move.group else self.people.employee(self.case.id)
        with at(event.at):
            self.instance = services.decide(tasks[step], move.outcomes[step], by=by, form=form)

    def _standing(self, tasks: dict[str, str]) -> str:
        if not tasks:
            return f"the instance is {self._row.status} ({self._row.outcome or 'no outcome'})"
        waits = " and ".join(sorted(tasks))
        return f"the declaration waits at {waits}"

    def _next_role(self, number: int, step: str) -> str:
        """Whom the log shows as the next to look at it; the usual one where it does not show that."""
        usual = "director" if step == "supervisor" else "supervisor"
        rank = LADDER.index(step) if step in LADDER else -1
        following = self.case.events[number + 1].activity if number + 1 < len(self.case.events) else ""
        role = following.removeprefix(f"{self.document} ").partition(" by ")[2]
        wanted = ROLES.get(role, ("", usual))[1]
        return wanted if LADDER.index(wanted) > rank else usual

    def _check_payment(self, event: Event) -> None:
        if event.activity == "Request Payment" and "settle" not in self._open():
            raise DoesNotFit(f"The payment could not be requested: {self._standing(self._open())}.")
        if event.activity == "Payment Handled" and self._row.status != InstanceStatus.COMPLETED:
            raise DoesNotFit(f"The payment could not be settled: {self._standing(self._open())}.")

    def _fire_due(self, before: datetime) -> None:
        """Reminders and due dates between two events happen when they happened, not later."""
        while moments := [moment for moment in self._moments() if moment <= before]:
            with at(min(moments)):
                fired = fire_due(instance_id=self._row.pk)
            self._row.refresh_from_db(fields=("status", "outcome", "state", "definition"))
            if not fired:
                return

    def _moments(self) -> Iterator[datetime]:
        definition = definition_for(self._row.definition_id)
        for token in self._row.state["tokens"].values():
            step = definition.step(token["step"])
            if isinstance(step, HumanStep) and "due" in token.get("timers", ()):
                yield datetime.fromisoformat(token["since"]) + parse_duration(step.due)


def at(moment: datetime) -> Any:
    return clock(lambda: moment)


def replay(
    cases: Iterable[Case],
    *,
    people: People,
    document: str = "Declaration",
    progress: Callable[[Report], None] = lambda report: None,
    patience: Callable[[], None] = lambda: None,
    report: Report | None = None,
) -> Report:
    """Follow every case. ``patience`` is called when all that are under way wait for machine steps."""
    report = report if report is not None else Report()
    begun, table = perf_counter(), moves(document)
    keys: list[Any] = []
    waiting = iter(cases)
    flight: deque[tuple[Follower, Iterator[None]]] = deque()
    try:
        while _fill(flight, waiting, document, people, table) or flight:
            moved = _round(flight, report, keys, progress)
            report.seconds = perf_counter() - begun
            if not moved:
                patience()
    finally:
        report.seconds = perf_counter() - begun
        _sum_up(report, keys)
    return report


def replay_in_threads(cases: Iterable[Case], *, threads: int, report: Report, **known: Any) -> Report:
    """The same by several threads, each with a connection of its own; cases are independent of one another.

    Where the log breaks, the cases before the break are followed to their end, and the error is raised.
    """
    begun, waiting, parts = perf_counter(), _Shared(cases), [Report() for _ in range(threads)]

    def work(part: Report) -> None:
        try:
            replay(waiting, report=part, **known)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        works = [pool.submit(work, part) for part in parts]
    report.seconds = perf_counter() - begun
    for part in parts:
        report.add(part)
    for done in works:
        done.result()
    return report


class _Shared(Iterator[Case]):
    """An iterator that several threads draw from."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._cases, self._lock = iter(cases), Lock()

    def __next__(self) -> Case:
        with self._lock:
            return next(self._cases)


def _fill(
    flight: deque[tuple[Follower, Iterator[None]]],
    waiting: Iterator[Case],
    document: str,
    people: People,
    table: dict[str, Move],
) -> bool:
    """Take up new cases until enough are under way; whether any was taken."""
    before = len(flight)
    while len(flight) < IN_FLIGHT:
        case = next(waiting, None)
        if case is None:
            break
        follower = Follower(case, document, people, table)
        flight.append((follower, follower.steps()))
    return len(flight) > before


def _round(
    flight: deque[tuple[Follower, Iterator[None]]], report: Report, keys: list[Any], progress: Callable[[Report], None]
) -> bool:
    """Move every case as far as it goes now; whether any has ended."""
    ended = 0
    for _ in range(len(flight)):
        follower, steps = flight.popleft()
        if next(steps, steps) is not steps:
            flight.append((follower, steps))
            continue
        ended += 1
        _note(follower, report)
        progress(report)
        if follower.instance is not None:
            keys.append(follower.instance.pk)
    return ended > 0


def _note(follower: Follower, report: Report) -> None:
    report.cases += 1
    report.events += len(follower.case.events)
    if follower.misfit is None:
        report.reproduced += 1
    else:
        report.not_reproduced.append(follower.misfit)


def _sum_up(report: Report, keys: list[Any]) -> None:
    """Outcomes of all instances, and those that wait for nothing."""
    outcomes: Counter[str] = Counter()
    for some in _chunks(keys, 500):
        rows = WorkflowInstance.objects.filter(pk__in=some)
        for outcome, status in rows.values_list("outcome", "status"):
            outcomes[outcome or ("open" if status != InstanceStatus.FAILED else "failed")] += 1
        tasks = HumanTask.objects.open().filter(instance=OuterRef("pk"))
        timers = Timer.objects.filter(instance=OuterRef("pk"), status=TimerStatus.OPEN)
        idle = rows.running().exclude(Exists(tasks)).exclude(Exists(timers))
        report.stuck += [str(key) for key in idle.values_list("pk", flat=True)]
    report.outcomes = dict(outcomes.most_common())


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
