"""What the test workflows are about."""

from __future__ import annotations

from django.db import models


class Expense(models.Model):
    title = models.CharField(max_length=200)
    amount = models.DecimalField(max_digits=12, decimal_places=2)

    def __str__(self) -> str:
        return self.title
