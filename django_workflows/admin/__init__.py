"""Django admin: rows to read; every act goes through a service."""

from .definitions import DefinitionAdmin
from .human_tasks import HumanTaskAdmin
from .incidents import IncidentAdmin
from .instances import InstanceAdmin

__all__ = ["DefinitionAdmin", "HumanTaskAdmin", "IncidentAdmin", "InstanceAdmin"]
