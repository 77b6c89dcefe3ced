"""How fast, beside a hand-written floor: ``python -m benchmarks``."""
