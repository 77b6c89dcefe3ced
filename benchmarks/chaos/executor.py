"""A queue that loses, repeats, delays and shuffles what it is given."""

from __future__ import annotations

import random
from datetime import timedelta

from django.utils import timezone
from django_q.models import OrmQ

from django_workflows.engine.executors.base import Job
from django_workflows.engine.executors.django_q import DjangoQExecutor


class UnreliableExecutor(DjangoQExecutor):
    """Of ten messages one is lost; the others come one to five times, up to two seconds late."""

    def enqueue(self, job: Job) -> None:
        if random.random() < 0.1:
            return
        for _ in range(random.randint(1, 5)):
            super().enqueue(job)
            late = timezone.now() + timedelta(seconds=random.random() * 2)
            newest = OrmQ.objects.order_by("-pk").values_list("pk", flat=True).first()
            OrmQ.objects.filter(pk=newest).update(lock=late)
