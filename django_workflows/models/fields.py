"""Keys that sort by time."""

from __future__ import annotations

import sys
import uuid

if sys.version_info >= (3, 14):
    from uuid import uuid7 as new_id
else:
    from uuid_utils.compat import uuid7

    def new_id() -> uuid.UUID:
        """A UUIDv7: later ones sort after earlier ones, so that an index grows at its end."""
        return uuid7()


__all__ = ["new_id"]
