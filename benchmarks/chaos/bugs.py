"""Planted bugs: each must turn a run red, or the run proves nothing."""

from __future__ import annotations

from typing import Any

from django_workflows.core import step_moves
from django_workflows.core.commands import CompleteStep
from django_workflows.engine import book, machine_steps, recovery


def plant(name: str) -> None:
    """Patch this process; an empty name plants nothing."""
    if name:
        BUGS[name]()


def _no_fence() -> None:
    """Whatever a worker reports counts, however old its attempt is."""
    real = step_moves._current

    def blind(run: Any, command: Any, statuses: Any) -> Any:
        token = run.snapshot.tokens.get(command.key)
        return token if token is not None else real(run, command, statuses)

    step_moves._current = blind


def _no_requeue() -> None:
    """Lost messages stay lost."""
    recovery.requeue_lost = lambda late: 0  # type: ignore[assignment]


def _no_interrupt() -> None:
    """Nobody notices that a worker has died."""
    recovery.interrupt_lost = lambda: 0  # type: ignore[assignment]


def _repeats_in_doubt() -> None:
    """What may have been done is done again."""
    step_moves._is_once_only = lambda run, token: False  # type: ignore[assignment]


def _gap() -> None:
    """One kind of event is forgotten."""
    real = book.Book.write

    def forgetful(self: Any) -> None:
        self.lines = [line for line in self.lines if "step_started" not in line]
        real(self)

    book.Book.write = forgetful  # type: ignore[method-assign]


def _completes_nothing() -> None:
    """Every fifth result is dropped after the effect, as if it had been written."""
    real, count = machine_steps._complete, iter(range(10**9))

    def lossy(instance_id: Any, token: Any, done: CompleteStep) -> None:
        if next(count) % 5:
            real(instance_id, token, done)

    machine_steps._complete = lossy


def _effect_in_a_transaction_of_its_own() -> None:
    """A transactional body whose effect is committed before its completion is."""
    import threading

    from django.db import connection

    real = machine_steps.call_body

    def apart(row: Any, definition: Any, snapshot: Any, token: Any, reporter: Any) -> Any:
        if machine_steps.machine_step(definition, token).mode != "transactional":
            return real(row, definition, snapshot, token, reporter)
        found: list[Any] = []

        def work() -> None:
            found.append(real(row, definition, snapshot, token, reporter))
            connection.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0]

    machine_steps.call_body = apart


def _lease_by_a_wrong_clock() -> None:
    """Leases end by a clock that is an hour slow."""
    from datetime import UTC, datetime, timedelta

    machine_steps.lease_end = lambda: datetime.now(UTC) - timedelta(hours=1)  # type: ignore[assignment]


BUGS = {
    "no_fence": _no_fence,
    "no_requeue": _no_requeue,
    "no_interrupt": _no_interrupt,
    "repeats_in_doubt": _repeats_in_doubt,
    "gap": _gap,
    "completes_nothing": _completes_nothing,
    "effect_apart": _effect_in_a_transaction_of_its_own,
    "lease_by_a_wrong_clock": _lease_by_a_wrong_clock,
}
