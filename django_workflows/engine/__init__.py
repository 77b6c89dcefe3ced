"""Lock, load, decide, record, commit: the only room that takes locks and writes state."""
