"""Bad input, bad code, bad clocks, and a database or a queue that fails now and then."""

from __future__ import annotations

import builtins
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connection, connections, transaction
from django_q.models import OrmQ

from django_workflows import approval, end, group, machine, registry, services, timer
from django_workflows.engine import jobs, machine_steps
from django_workflows.engine.executors import django_q, executor
from django_workflows.engine.loader import definition_for
from django_workflows.engine.recovery import sweep
from django_workflows.engine.timers import fire_due
from django_workflows.exceptions import InvalidInput, NotFound, StaleAttempt, WorkflowError
from django_workflows.models import (
    Decision,
    HumanTask,
    Incident,
    StepExecution,
    Timer,
    WorkflowDefinition,
    WorkflowEvent,
    WorkflowInstance,
)
from django_workflows.testing import assert_log_gives_state, decide_as, frozen_clock, run_jobs

pytestmark = pytest.mark.django_db(transaction=True)

SYSTEM = services.SYSTEM
MODES = ("at_least_once", "transactional", "at_most_once")


@pytest.fixture
def make_instance(make_many: Any) -> Any:
    return make_many("faults")


RAISE: list[Any] = []
RETURN: list[Any] = []


def raises(ctx: Any) -> None:
    error = RAISE[0]
    raise error


def returns(ctx: Any) -> Any:
    return RETURN[0]


def sets(ctx: Any) -> None:
    ctx.set("value", RETURN[0])


def fine(ctx: Any) -> str:
    return "fine"


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


POISON = {
    "5 MB": lambda: "x" * 5_000_000,
    "depth 10,000": lambda: nested(10_000),
    "itself": endless,
    "NaN": lambda: float("nan"),
    "infinity": lambda: [float("inf")],
    "NUL": lambda: {"a": "x\x00y"},
    "NUL in a key": lambda: {"a\x00": 1},
    "lone surrogate": lambda: "\ud800",
    "huge int": lambda: 10**40,
    "key that is no text": lambda: {1: 2},
    "object": object,
    "function": lambda: fine,
    "generator": lambda: iter(()),
}
"""R42. A Decimal, a naive datetime and bytes are no poison: they are stored as what they are."""


@pytest.mark.parametrize("make", POISON.values(), ids=POISON.keys())
def test_r42_poison_is_refused_at_the_edge_and_changes_nothing(make_user: Any, make_instance: Any, make: Any) -> None:
    maria = make_user("maria", "team")
    instance = make_instance(ask=approval(assign=group("team")))
    before = WorkflowEvent.objects.count()
    for act in (
        lambda: services.start("faults", by=SYSTEM, data={"value": make()}),
        lambda: services.start("faults", by=SYSTEM, metadata={"value": make()}),
        lambda: decide_as(maria, instance, "approved", form={"value": make()}),
    ):
        with pytest.raises(InvalidInput):
            act()
    assert WorkflowEvent.objects.count() == before


@pytest.mark.parametrize("body", [returns, sets])
@pytest.mark.parametrize("make", POISON.values(), ids=POISON.keys())
def test_r42_poison_from_a_step_is_an_incident_and_the_neighbours_notice_nothing(
    make_instance: Any, body: Any, make: Any
) -> None:
    RETURN[:] = [make()]
    poisoned = [make_instance(work=machine(body, mode=mode), mode=end(mode)) for mode in MODES]
    run_jobs()

    for instance in poisoned:
        instance.refresh_from_db()
        assert instance.status == "waiting"
        assert instance.incidents.get().kind == "step_failed"
        assert_log_gives_state(instance)
    RETURN[:] = ["fine"]
    for fingerprint in Incident.objects.values_list("fingerprint", flat=True).distinct():
        services.resolve_all(fingerprint, "retry", by=SYSTEM)
    run_jobs()
    assert set(WorkflowInstance.objects.values_list("status", flat=True)) == {"completed"}


class BrokenText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("cannot be sent")
        self.lock = threading.Lock()


class Slotted(Exception):
    __slots__ = ()


def every_exception() -> Iterator[tuple[str, BaseException]]:
    made: dict[str, Callable[[], BaseException]] = {
        "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        "UnicodeEncodeError": lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "bad"),
        "UnicodeTranslateError": lambda: UnicodeTranslateError("x", 0, 1, "bad"),
        "ExceptionGroup": lambda: ExceptionGroup("several", [ValueError("a"), OSError("b")]),
        "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [KeyboardInterrupt()]),
    }
    for name, kind in vars(builtins).items():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            yield name, made.get(name, lambda kind=kind: kind("told \x00 \ud800"))()  # type: ignore[misc]
    yield from (("BrokenText", BrokenText()), ("Unpicklable", Unpicklable()), ("Slotted", Slotted("x")))
    yield from (("our own NotFound", NotFound("elsewhere")), ("our own StaleAttempt", StaleAttempt("elsewhere")))


@pytest.mark.parametrize("mode", MODES)
def test_r43_whatever_a_step_raises_is_an_incident_and_the_worker_lives(make_instance: Any, mode: str) -> None:
    for name, error in every_exception():
        RAISE[:] = [error]
        instance = make_instance(work=machine(raises, mode=mode))
        run_jobs()

        incident = Incident.objects.filter(instance=instance).first()
        assert incident is not None, name
        assert incident.kind in ("step_failed", "in_doubt"), name
        assert "\x00" not in incident.message
        assert_log_gives_state(instance)


def test_r43_whatever_an_inline_step_raises_refuses_the_decision(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "team")
    instance = make_instance(ask=approval(assign=group("team")), work=machine(raises, mode="inline"))
    for name, error in every_exception():
        RAISE[:] = [error]

        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it is no BaseException that ends a server
            decide_as(maria, instance, "approved")
        assert HumanTask.objects.get().status == "open", name
    assert_log_gives_state(instance)


def loses_its_table(ctx: Any, result: Any) -> None:
    Group.objects.create(name="half done")
    raise OperationalError("no such table")


def makes_it_worse(ctx: Any, error: Exception) -> bool:
    Group.objects.create(name="half done")
    raise ZeroDivisionError


@pytest.mark.parametrize("mode", ["at_least_once", "transactional"])
def test_r45_a_hook_that_raises_is_a_failure_of_its_step_at_once(make_instance: Any, mode: str) -> None:
    instance = make_instance(work=machine(fine, mode=mode, on_success=loses_its_table))
    run_jobs()

    assert (Incident.objects.get().error_type, Group.objects.count()) == ("OperationalError", 0)
    assert_log_gives_state(instance)


@pytest.mark.parametrize("mode", ["at_least_once", "transactional"])
def test_r45_a_failure_hook_that_fails_leaves_the_failure_and_nothing_else(make_instance: Any, mode: str) -> None:
    RAISE[:] = [ValueError("the cause")]
    instance = make_instance(work=machine(raises, mode=mode, on_failure=makes_it_worse))
    run_jobs()

    assert (Incident.objects.get().message, Group.objects.count()) == ("the cause", 0)
    assert_log_gives_state(instance)


def calls_itself(ctx: Any) -> Any:
    return calls_itself(ctx)


def test_r43_endless_recursion_is_an_incident(make_instance: Any) -> None:
    make_instance(work=machine(calls_itself))
    run_jobs()

    assert Incident.objects.get().error_type == "RecursionError"


# R44: what was there is gone


def test_r44_a_callable_that_a_deploy_has_lost_is_an_incident_until_it_is_back(
    make_instance: Any, monkeypatch: Any
) -> None:
    instance = make_instance(work=machine(fine))
    name = registry._names[fine]
    with monkeypatch.context() as patch:
        patch.delitem(registry._functions, name)
        run_jobs()
        assert Incident.objects.get().error_type == "FunctionNotRegistered"
        assert sweep()["requeued"] == 0

    services.resolve(Incident.objects.get(), "retry", by=SYSTEM)
    run_jobs()
    instance.refresh_from_db()
    assert instance.status == "completed"


@pytest.mark.parametrize("when", ["a job", "a timer"])
def test_r44_a_definition_that_cannot_be_read_any_more_is_an_incident_and_no_crash_loop(
    make_user: Any, make_instance: Any, when: str
) -> None:
    root = make_user("root", is_superuser=True)
    first = timer("1h") if when == "a timer" else machine(fine)
    instance = make_instance(work=first, after=machine(fine))
    content = WorkflowDefinition.objects.get().content
    broken = {**content, "steps": [{**content["steps"][0], "type": "of_another_version"}]}
    WorkflowDefinition.objects.update(content=broken)
    definition_for.cache_clear()
    with frozen_clock() as clock:
        clock.move(timedelta(hours=2))
        run_jobs()

        assert Incident.objects.get().kind == "definition_unusable"
        clock.move(timedelta(hours=2))
        assert sweep() == {"requeued": 0, "interrupted": 0, "stuck": 0}
    assert any("cannot be read" in finding.message for finding in services.examine(by=SYSTEM))

    WorkflowDefinition.objects.update(content=content)
    definition_for.cache_clear()
    services.resolve(Incident.objects.get(), "skip", by=root, reason="done elsewhere")
    run_jobs()
    instance.refresh_from_db()
    assert instance.status == "completed"


def test_r44_what_cannot_be_recovered_holds_up_nothing_behind_it(make_instance: Any) -> None:
    bad, garbled, good = (make_instance(work=machine(fine), kind=end(name)) for name in ("bad", "garbled", "good"))
    lost = make_instance(first=machine(fine), kind=end("lost"))
    for instance in (bad, garbled, good):
        machine_steps.claim(str(instance.pk), "work#1", 1)
    executor().jobs.clear()  # type: ignore[attr-defined]
    other = services.publish({**bad.definition.content, "name": "faults-other"}, by=SYSTEM)
    WorkflowDefinition.objects.filter(pk=other.pk).update(content={"nonsense": 1})
    WorkflowInstance.objects.filter(pk=bad.pk).update(definition=other)
    WorkflowInstance.objects.filter(pk=garbled.pk).update(
        state={"tokens": {"work#1": {"nonsense": 1}}}, updated_at="2020-01-01T00:00:00Z"
    )
    StepExecution.objects.filter(status="running").update(lease_until="2020-01-01T00:00:00Z")
    StepExecution.objects.filter(status="scheduled").update(scheduled_at="2020-01-01T00:00:00Z")

    assert sweep() == {"requeued": 1, "interrupted": 1, "stuck": 0}
    run_jobs()

    for instance in (good, lost):
        instance.refresh_from_db()
        assert instance.status == "completed"
    assert Incident.objects.get().kind == "definition_unusable"
    assert {finding.kind for finding in services.examine(by=SYSTEM, instance_id=garbled.pk)} >= {"drifted"}


def test_r44_an_instance_whose_definition_cannot_be_read_can_still_be_ended(make_instance: Any) -> None:
    instance = make_instance(rest=timer("1h"))
    WorkflowDefinition.objects.update(content={"nonsense": 1})
    definition_for.cache_clear()

    assert services.cancel(instance, by=SYSTEM).status == "canceled"


def test_r44_a_deleted_subject_initiator_or_group_crashes_nothing(make_user: Any, make_workflow: Any) -> None:
    seen: list[Any] = []

    def looks(ctx: Any) -> None:
        seen.append(ctx.subject)

    maria, ben = make_user("maria", "team"), make_user("ben")
    workflow = make_workflow(name="faults-gone", look=machine(looks), ask=approval(assign=group("team")))
    services.publish(workflow, by=SYSTEM)
    about = Group.objects.create(name="the subject")
    instance = services.start(workflow, by=ben, subject=about)
    about.delete()
    ben.delete()
    run_jobs()
    assert seen == [None]
    assert decide_as(maria, instance, "approved").initiator_name == "ben"

    other = services.start(workflow, by=maria)
    Group.objects.filter(name="team").delete()
    run_jobs()
    assert other.incidents.open().exists()
    assert_log_gives_state(other)


def test_r44_a_model_that_is_gone_is_no_subject(make_instance: Any) -> None:
    instance = make_instance(rest=timer("1h"))
    gone = ContentType.objects.create(app_label="gone", model="gone")
    WorkflowInstance.objects.update(subject_type=gone, subject_id="1")

    instance.refresh_from_db()
    assert instance.about is None


def test_r44_a_deleted_assignee_leaves_the_task_to_an_administrator(make_user: Any, make_instance: Any) -> None:
    root, maria = make_user("root", is_superuser=True), make_user("maria", "team")
    instance = make_instance(ask=approval(assign=group("team")))
    task = HumanTask.objects.get(instance=instance)
    services.claim(task, by=maria)
    maria.delete()
    mona = make_user("mona")

    services.reassign(task, by=root, to=mona, reason="maria has left")
    assert services.decide(task, "approved", by=mona).outcome == "approved"


# R29 to R33: the queue


def test_r29_what_the_caller_rolls_back_was_never_sent(make_user: Any, make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_EXECUTOR = "django_q"
    maria = make_user("maria", "team")
    instance = make_instance(ask=approval(assign=group("team")), work=machine(fine))
    make_instance(work=machine(fine))
    queued, events = OrmQ.objects.count(), WorkflowEvent.objects.count()

    for _ in range(100):
        with pytest.raises(ZeroDivisionError), transaction.atomic(), transaction.atomic():  # noqa: PT012
            services.start("faults-1", by=SYSTEM)
            decide_as(maria, instance, "approved")
            raise ZeroDivisionError

    assert (OrmQ.objects.count(), WorkflowEvent.objects.count()) == (queued, events)
    with transaction.atomic():
        decide_as(maria, instance, "approved")
        services.start("faults-1", by=SYSTEM)
    assert OrmQ.objects.count() == queued + 2


def test_r30_a_message_that_was_never_sent_after_the_commit_is_sent_by_the_sweep(make_instance: Any) -> None:
    with frozen_clock() as clock:
        instances = [make_instance(work=machine(fine)) for _ in range(20)]
        executor().jobs.clear()  # type: ignore[attr-defined]
        clock.move(timedelta(minutes=2))

        assert sweep()["requeued"] == 20
        run_jobs()
    for instance in instances:
        instance.refresh_from_db()
        assert instance.status == "completed"


class DownBroker:
    """A queue elsewhere, which can be down."""

    is_down = True
    sent: list[str]

    def __init__(self) -> None:
        self.sent = []
        self.list_key = "x"

    def enqueue(self, package: str) -> str:
        if self.is_down:
            raise ConnectionError("the queue is down")
        self.sent.append(package)
        return "1"

    def queue_size(self) -> int:
        if self.is_down:
            raise ConnectionError("the queue is down")
        return 0


def test_r32_a_queue_that_is_down_disturbs_nobody_and_makes_no_burst_when_it_is_back(
    make_instance: Any, settings: Any, monkeypatch: Any
) -> None:
    settings.WORKFLOWS_EXECUTOR = "django_q"
    broker = DownBroker()
    monkeypatch.setattr(django_q, "get_broker", lambda: broker)
    with frozen_clock() as clock:
        for _ in range(10):
            make_instance(work=machine(fine))
        for _ in range(5):
            clock.move(timedelta(minutes=1))
            sweep()
        assert broker.sent == []
        broker.is_down = False
        clock.move(timedelta(minutes=1))

        assert sweep()["requeued"] == 10
        assert sweep()["requeued"] == 0
    assert len(broker.sent) == 10


def test_a_queue_that_is_behind_is_not_given_the_same_messages_again(make_instance: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(executor()), "is_behind", lambda self: True)
    with frozen_clock() as clock:
        make_instance(work=machine(fine))
        clock.move(timedelta(minutes=2))
        assert sweep()["requeued"] == 0
        clock.move(timedelta(minutes=20))
        assert sweep()["requeued"] == 1


def test_a_message_that_is_not_in_the_queue_any_more_is_missed_at_once(make_instance: Any, settings: Any) -> None:
    settings.WORKFLOWS_EXECUTOR = "django_q"
    make_instance(work=machine(fine))
    StepExecution.objects.update(scheduled_at=datetime.now(UTC) - timedelta(seconds=5))
    assert sweep()["requeued"] == 0
    OrmQ.objects.all().delete()
    assert [finding.kind for finding in services.examine(by=SYSTEM)] == ["lost"]

    assert sweep()["requeued"] == 1
    assert OrmQ.objects.count() == 1


def test_r33_messages_of_other_versions_and_of_what_is_gone_are_dropped(make_instance: Any, caplog: Any) -> None:
    instance = make_instance(work=machine(fine), rest=timer("1h"))
    run_jobs()
    before = WorkflowEvent.objects.count()

    for words in (
        ("run_step", str(instance.pk), "work#1", 1),
        ("run_step", str(instance.pk), "rest#1", 1),
        ("run_step", str(instance.pk), "never#1", 1),
        ("run_step", "0190c5c6-0000-7000-8000-000000000000", "work#1", 1),
        ("run_step", "no key at all", "work#1", 1),
        ("run_instance", str(instance.pk), "", 1),
        ("settle", str(instance.pk)),
        ("of_a_later_version", str(instance.pk), "work#1", 1),
        ("run_step", str(instance.pk), "work#1", 1, "an argument of a later version"),
    ):
        jobs.run(*words)
    jobs.run("run_step", str(instance.pk), "work#1", 1, hurry=True)

    assert WorkflowEvent.objects.count() == before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert not Incident.objects.exists()


def test_a_fault_outside_of_the_step_is_an_incident_and_no_crash_loop(make_instance: Any, monkeypatch: Any) -> None:
    instance = make_instance(work=machine(fine))

    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(machine_steps, "call_outside", broken)
    run_jobs()

    incident = Incident.objects.get()
    assert (incident.kind, incident.error_type) == ("job_failed", "KeyError")
    assert_log_gives_state(instance)


# R35: clocks


@pytest.mark.parametrize("hours", [1, -1, 24, -24])
def test_r35_a_worker_with_a_wrong_clock_neither_fires_early_nor_judges_leases(make_instance: Any, hours: int) -> None:
    now = datetime.now(UTC)
    with time_machine.travel(now + timedelta(hours=hours)):
        instance = make_instance(work=machine(fine), rest=timer("10m"))
        job = executor().jobs.pop()  # type: ignore[attr-defined]
        claimed = machine_steps.claim(job.instance_id, job.key, job.attempt)
        assert sweep() == {"requeued": 0, "interrupted": 0, "stuck": 0}
        assert claimed is not None
        machine_steps.call_outside(claimed)
        assert fire_due() == 0

    due_at = Timer.objects.get().due_at
    assert abs(due_at - now - timedelta(minutes=10)) < timedelta(seconds=30)
    with time_machine.travel(now - timedelta(hours=hours)):
        assert fire_due() == 0
        Timer.objects.update(due_at=now - timedelta(seconds=1))
        assert fire_due() == 1
    lines = list(WorkflowEvent.objects.of(instance))
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert_log_gives_state(instance)


# R22 and R18 in the small: statements that fail, or succeed and seem to fail


class Unreliable:
    """Fails every so many statements: before they are executed, or after."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self.rng, self.share = rng, share
        self.faults = 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        chance = self.rng.random()
        if chance > 2 * self.share:
            return execute(sql, params, many, context)
        self.faults += 1
        if chance > self.share:
            execute(sql, params, many, context)
        raise OperationalError("the network is unreliable")


def decide_all(people: list[Any]) -> None:
    for task in surely(lambda: list(HumanTask.objects.open())):
        for person in people:
            surely(lambda task=task, person=person: services.decide(task, "approved", by=person))


def surely(act: Callable[[], Any]) -> Any:
    """Again until it is answered, as a client does; a refusal is an answer."""
    for _ in range(50):
        try:
            return act()
        except OperationalError:
            connection.close()
        except WorkflowError as error:
            return error
    raise AssertionError("fifty faults in a row")


def test_r22_statements_that_fail_before_or_after_they_were_executed_leave_a_sound_house(
    make_user: Any, make_instance: Any, settings: Any
) -> None:
    settings.WORKFLOWS_LEASE_SECONDS = 1
    people = [make_user(name, "team") for name in ("ann", "ben")]
    make_instance(
        work=machine(fine), pay=machine(fine, mode="transactional"), ask=approval(assign=group("team"), quorum=2)
    )
    unreliable = Unreliable(random.Random(7), 0.01)
    started: set[Any] = set()

    with connection.execute_wrapper(unreliable):
        for number in range(60):
            start = {"by": SYSTEM, "idempotency_key": f"k{number}"}
            started.add(surely(lambda start=start: services.start("faults", **start)).pk)
            surely(run_jobs)
        decide_all(people)
    StepExecution.objects.filter(status="scheduled").update(scheduled_at="2020-01-01T00:00:00Z")
    StepExecution.objects.filter(status="running").update(lease_until="2020-01-01T00:00:00Z")
    for _ in range(5):
        sweep()
        run_jobs()
        decide_all(people)
        StepExecution.objects.filter(status="scheduled").update(scheduled_at="2020-01-01T00:00:00Z")

    assert unreliable.faults > 20
    assert len(started) == 60
    keyed = WorkflowInstance.objects.exclude(idempotency_key="")
    assert keyed.count() == 60
    assert set(keyed.values_list("status", "outcome")) == {("completed", "approved")}
    assert list(services.examine(by=SYSTEM)) == []


def cut(line: socket.socket) -> None:
    """End it also for a thread that listens to it."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@contextmanager
def cutting_proxy(host: str, port: int) -> Iterator[tuple[int, list[bool]]]:  # noqa: C901 - four small threads
    """Forwards to PostgreSQL; once armed, forwards the next COMMIT and cuts the line before its answer."""
    armed: list[bool] = []
    upstream: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        server = socket.socket(family)
        upstream.append(server)
        server.connect(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        try:
            while found := client.recv(65536):
                server.sendall(found)
                if armed and b"COMMIT" in found:
                    armed.clear()
                    cut(client)
                    return
        except OSError:
            return
        finally:
            cut(server)
            cut(client)

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while found := source.recv(65536):
                target.sendall(found)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], armed
    finally:
        listener.close()
        for server in upstream:
            cut(server)


@pytest.mark.postgres
def test_r22_a_commit_whose_answer_is_lost_counts_once_when_it_is_repeated(make_user: Any, make_instance: Any) -> None:
    maria = make_user("maria", "team")
    make_instance(ask=approval(assign=group("team")), work=machine(fine), rest=timer("0s"), done=end("through"))
    settings = connection.settings_dict
    real = {name: settings[name] for name in ("HOST", "PORT")}
    cuts = 0
    with cutting_proxy(settings["HOST"], int(settings["PORT"] or 5432)) as (port, armed):
        settings.update(HOST="127.0.0.1", PORT=port)
        connection.close()
        try:
            for number in range(50):
                cuts += once(
                    armed, lambda number=number: services.start("faults", by=SYSTEM, idempotency_key=f"k{number}")
                )
                instance = services.start("faults", by=SYSTEM, idempotency_key=f"k{number}")
                cuts += once(armed, lambda instance=instance: decide_as(maria, instance, "approved"))
                with suppress(WorkflowError, HumanTask.DoesNotExist):  # the first may have arrived or not
                    decide_as(maria, instance, "approved")
                recover()
                cuts += once(armed, run_jobs)
                recover()
                run_jobs()
                cuts += once(armed, fire_due)
                fire_due()
        finally:
            armed.clear()
            settings.update(real)
            connections.close_all()

    assert cuts >= 150
    keyed = WorkflowInstance.objects.exclude(idempotency_key="")
    assert keyed.count() == 50
    assert Decision.objects.count() == 50
    for _ in range(3):
        recover()
        run_jobs()
        fire_due()
    assert set(keyed.values_list("status", flat=True)) == {"completed"}
    assert list(services.examine(by=SYSTEM)) == []


def recover() -> None:
    """Time passes, and what was lost is found."""
    StepExecution.objects.filter(status="scheduled").update(scheduled_at="2020-01-01T00:00:00Z")
    StepExecution.objects.filter(status="running").update(lease_until="2020-01-01T00:00:00Z")
    sweep()


def once(armed: list[bool], act: Callable[[], Any]) -> int:
    """Do it with its commit cut off; returns 1 if the line was cut, also where the engine dealt with that."""
    armed.append(True)
    with suppress(OperationalError):
        act()
    was_cut = not armed
    armed.clear()
    connection.close()
    return int(was_cut)
