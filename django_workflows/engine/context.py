"""What the body of a step works with."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from uuid import UUID

from django_workflows.conf import settings
from django_workflows.core.snapshot import Snapshot, Token
from django_workflows.core.values import decode, encode
from django_workflows.exceptions import CancellationError
from django_workflows.models import StepExecution, WorkflowInstance
from django_workflows.models.instances import OPEN_STEPS
from django_workflows.states import INSTANCE_ENDED, EventName

from .database import alias
from .reporting import Reporter


class StepContext:
    """The instance as a step sees it: ``data`` to read and to change, everything else to read.

    What is changed in ``data``, also deep inside a value, is stored when the step completes, and
    only the keys that changed. ``idempotency_key`` is the same for every attempt of this execution.
    """

    def __init__(
        self, row: WorkflowInstance, snapshot: Snapshot, token: Token, reporter: Reporter | None = None
    ) -> None:
        self.instance_id: UUID = row.pk
        self.workflow: str = row.workflow
        self.business_key: str = row.business_key
        self.tenant: str = row.tenant
        self.initiator: str = row.initiator_name
        self.metadata: Mapping[str, Any] = decode(row.metadata)
        self.step: str = token.step
        self.key: str = token.key
        self.attempt: int = token.attempt
        self.idempotency_key: str = f"{row.pk}:{token.step}:{token.occurrence}"
        self.data: dict[str, Any] = decode(deepcopy(dict(snapshot.data)))
        self._before = dict(snapshot.data)
        self._steps = snapshot.steps
        self._row = row
        self._reporter = reporter or Reporter()
        self._shields = 0
        self.chosen: str = ""

    # data

    def get(self, key: str, default: Any = None) -> Any:
        return self.data.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.data[key] = value

    def with_data(self, **values: Any) -> StepContext:
        """Set several keys; returns the context."""
        self.data.update(values)
        return self

    def changes(self) -> tuple[dict[str, Any], list[str]]:
        """The keys whose value is another than before, encoded, and those that are gone."""
        now = encode(self.data, max_bytes=settings.MAX_PAYLOAD_BYTES)
        changed = {key: value for key, value in now.items() if key not in self._before or self._before[key] != value}
        return changed, [key for key in self._before if key not in now]

    def choose(self, outcome: str) -> None:
        """End the step with one of the outcomes it declares, so that its edge is taken."""
        self.chosen = outcome

    # results and history

    def result(self, step: str, default: Any = None) -> Any:
        """The output of a step's last passage."""
        found = self._steps.get(step)
        return default if found is None else decode(found.get("output"))

    def outcome(self, step: str, default: str = "") -> str:
        found = self._steps.get(step)
        return default if found is None else str(found.get("outcome", default))

    def history(self) -> list[StepExecution]:
        """Every step execution so far, in order (one query)."""
        return list(StepExecution.objects.filter(instance=self.instance_id).order_by("index"))

    @property
    def instance(self) -> WorkflowInstance:
        """The row as it was when the step was taken up; change ``data``, not the row."""
        return self._row

    @property
    def subject(self) -> Any:
        """The model row the instance is about, or ``None``."""
        return self.instance.about

    # cancellation

    def check_cancellation(self) -> None:
        """Raise ``CancellationError`` if the step is to stop: a checkpoint for long bodies (two small queries).

        That is so once the instance is being canceled, or has ended, or another worker has taken the
        step over because this one was not heard of. Inside ``shield()`` nothing is raised. The body of
        a ``transactional`` step holds its instance, so that a cancellation waits for it.
        """
        if self._shields:
            return
        key = self._row.state.get("ids", {}).get(self.key)
        now = WorkflowInstance.objects.using(alias()).filter(pk=self.instance_id)
        found = now.values_list("status", "cancel_requested_at").first()
        if found is None or found[0] in INSTANCE_ENDED:
            raise CancellationError(f"The instance of {self.key} has ended.", key=self.key)
        if found[1] is not None:
            raise CancellationError(f"The instance of {self.key} is being canceled.", key=self.key)
        mine = StepExecution.objects.using(alias()).filter(pk=key, attempt=self.attempt, status__in=OPEN_STEPS)
        if key is not None and not mine.exists():
            raise CancellationError(f"Another worker has taken over {self.key}.", key=self.key)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """A section that ``check_cancellation`` does not interrupt, however deep it is called."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1

    # progress

    def progress(self, done: float, *, of: float = 1.0, text: str = "", **metadata: Any) -> None:
        """Report how far the step is: ``progress(3, of=10, text="three of ten")``.

        Written at most every ``WORKFLOWS_PROGRESS_SECONDS``; the last report is never lost.
        """
        if not of or done < 0 or done > of:
            raise ValueError(f"progress({done}, of={of}) is no part of a whole.")
        self._reporter.add(
            {
                "event": EventName.STEP_PROGRESS,
                "text": text,
                "fraction": round(done / of, 4),
                "metadata": encode(metadata),
            }
        )

    @contextmanager
    def action(self, name: str, *, text: str = "", **metadata: Any) -> Iterator[None]:
        """Report a piece of work inside the step: started, then completed or failed."""
        known = {"action": name, "text": text, "metadata": encode(metadata)}
        started = time.monotonic()
        self._reporter.add({"event": EventName.STEP_ACTION_STARTED, **known})
        try:
            yield
        except BaseException as error:
            self._reporter.add(
                {
                    "event": EventName.STEP_ACTION_FAILED,
                    "action": name,
                    "error": describe(error),
                    "error_type": type(error).__name__,
                    "diagnostics": {"traceback": traceback_text(error)},
                    "duration": time.monotonic() - started,
                }
            )
            raise
        self._reporter.add({"event": EventName.STEP_ACTION_COMPLETED, **known, "duration": time.monotonic() - started})


def describe(error: BaseException) -> str:
    """The error's text, even if its ``__str__`` raises; without NUL and lone surrogates."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - user code: anything may be raised while an error is put into words
        text = f"(an error whose text cannot be read: {type(error).__name__})"
    return clean(text)[:4000]


def traceback_text(error: BaseException) -> str:
    """The last 8,000 characters of the traceback."""
    try:
        return clean("".join(traceback.format_exception(error)))[-8000:]
    except Exception:  # noqa: BLE001 - an error whose parts cannot be formatted
        return ""


def clean(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
