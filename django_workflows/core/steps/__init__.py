"""One file per step type. Each registers itself; a project registers its own the same way."""

from .approval import ApprovalStep
from .base import STEP_TYPES, step_type
from .decision import DecisionStep
from .end import EndStep
from .fork import ForkStep
from .human import Assignment, HumanStep
from .join import JoinStep
from .machine import MachineStep
from .timer import TimerStep

__all__ = [
    "STEP_TYPES",
    "ApprovalStep",
    "Assignment",
    "DecisionStep",
    "EndStep",
    "ForkStep",
    "HumanStep",
    "JoinStep",
    "MachineStep",
    "TimerStep",
    "step_type",
]
