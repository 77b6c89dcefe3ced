"""What the payment office's system keeps."""

from __future__ import annotations

from django.db import models

from django_workflows.models import WorkflowInstance


class Payment(models.Model):
    """Money on its way to an employee; a declaration that comes back is asked for anew."""

    class Status(models.TextChoices):
        REQUESTED = "requested"
        HANDLED = "handled"

    instance = models.ForeignKey(WorkflowInstance, on_delete=models.PROTECT, related_name="payments")
    number = models.CharField(max_length=100)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.REQUESTED)
    requested_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-requested_at",)

    def __str__(self) -> str:
        return f"{self.number}: {self.amount}"
