"""Rows: fields, constraints and questions. Writing is the business of the engine and the services.

Outside code imports models from here; modules of this room import only those above them in this list.
"""

# ruff: noqa: I001
from .definitions import WorkflowDefinition
from .instances import StepExecution, WorkflowInstance
from .human_tasks import Decision, HumanTask, TaskCandidate
from .timers import Timer
from .events import WorkflowEvent
from .incidents import Incident
from .grants import WorkflowDefinitionGroupObjectPermission, WorkflowDefinitionUserObjectPermission

__all__ = [
    "Decision",
    "HumanTask",
    "Incident",
    "StepExecution",
    "TaskCandidate",
    "Timer",
    "WorkflowDefinition",
    "WorkflowDefinitionGroupObjectPermission",
    "WorkflowDefinitionUserObjectPermission",
    "WorkflowEvent",
    "WorkflowInstance",
]
