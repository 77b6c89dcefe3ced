"""The ledger inside of the database: written by the body of a step, in its transaction."""

from __future__ import annotations

from django.db import models


class LedgerLine(models.Model):
    """One effect of a transactional step."""

    key = models.CharField(max_length=150, db_index=True)
    pid = models.IntegerField()

    def __str__(self) -> str:
        return self.key
