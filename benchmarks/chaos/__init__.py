"""Killing workers, dropping messages and stopping databases, and counting what that cost.

``python -m benchmarks.chaos --help``. The driver is never killed. It starts instances, kills, waits
until nothing moves any more, and lets the checker compare what was promised with the ledgers.
"""
