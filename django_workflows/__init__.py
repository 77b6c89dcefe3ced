"""Approval workflows for Django: definitions, instances, human tasks, and a history of every change.

This is the authoring door: what a ``workflows.py`` needs. The verbs are in
``django_workflows.services``, the rows in ``django_workflows.models``.
"""

from django_workflows.core.authoring import (
    Quorum,
    Retry,
    Workflow,
    approval,
    decision,
    end,
    expression,
    fork,
    function,
    group,
    human,
    initiator,
    join,
    machine,
    manager_of,
    step,
    timer,
    user,
)
from django_workflows.core.definition import Definition, Edge, Step
from django_workflows.core.steps import STEP_TYPES, step_type
from django_workflows.exceptions import CancellationError, FatalError, RetryableError, StepTimeout, WorkflowError
from django_workflows.registry import step_function

__version__ = "0.1.0"

__all__ = [
    "STEP_TYPES",
    "CancellationError",
    "Definition",
    "Edge",
    "FatalError",
    "Quorum",
    "Retry",
    "RetryableError",
    "Step",
    "StepTimeout",
    "Workflow",
    "WorkflowError",
    "__version__",
    "approval",
    "decision",
    "end",
    "expression",
    "fork",
    "function",
    "group",
    "human",
    "initiator",
    "join",
    "machine",
    "manager_of",
    "step",
    "step_function",
    "step_type",
    "timer",
    "user",
]
