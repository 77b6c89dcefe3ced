"""Types that several rooms share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    User: TypeAlias = AbstractBaseUser
else:
    User = Any

JSONValue: TypeAlias = Any
