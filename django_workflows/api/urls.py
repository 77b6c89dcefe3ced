"""``path("workflows/", include("django_workflows.api.urls"))``."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from .definitions import DefinitionView
from .human_tasks import HumanTaskView
from .incidents import IncidentView
from .instances import InstanceView

app_name = "django_workflows"

router = SimpleRouter()
router.register("definitions", DefinitionView, basename="definition")
router.register("instances", InstanceView, basename="instance")
router.register("incidents", IncidentView, basename="incident")
router.register("tasks", HumanTaskView, basename="task")

urlpatterns = router.urls
