"""The people of the example, in the groups that the workflow assigns to."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User

#: Role in the log -> (group, the step that people of the role decide).
ROLES = {
    "PRE_APPROVER": ("pre-approvers", "pre_approver"),
    "ADMINISTRATION": ("administration", "administration"),
    "BUDGET OWNER": ("budget-owners", "budget_owner"),
    "SUPERVISOR": ("supervisors", "supervisor"),
    "DIRECTOR": ("directors", "director"),
}
PAYMENT_OFFICE = "payment-office"
EMPLOYEES = 50
PER_ROLE = 3
PASSWORD = "demo"


@dataclass(frozen=True, slots=True)
class People:
    """Who acts: employees by number, the others by their group."""

    employees: list[User] = field(default_factory=list)
    groups: dict[str, list[User]] = field(default_factory=dict)

    def employee(self, case: str) -> User:
        return self.employees[zlib.crc32(case.encode()) % len(self.employees)]

    def of(self, group: str, case: str) -> User:
        members = self.groups[group]
        return members[zlib.crc32(case.encode()) % len(members)]


def create_people() -> People:
    """Everybody, made where missing; all have the password ``demo``, and the staff may look around."""
    names = [f"employee{number}" for number in range(1, EMPLOYEES + 1)]
    people = People(employees=_users(names), groups={})
    for group in (*(group for group, _ in ROLES.values()), PAYMENT_OFFICE):
        row, _ = Group.objects.get_or_create(name=group)
        row.permissions.set(Permission.objects.filter(codename__in=("view_humantask", "view_workflowinstance")))
        people.groups[group] = _users([f"{group.rstrip('s')}{number}" for number in range(1, PER_ROLE + 1)], row)
    _users(["admin"], is_superuser=True)
    return people


@cache
def _password() -> str:
    """Made once: hashing is slow on purpose."""
    return make_password(PASSWORD)


def _users(names: list[str], group: Group | None = None, **fields: Any) -> list[User]:
    known = set(User.objects.filter(username__in=names).values_list("username", flat=True))
    User.objects.bulk_create(
        User(username=name, password=_password(), is_staff=True, email=f"{name}@example.org", **fields)
        for name in names
        if name not in known
    )
    users = list(User.objects.filter(username__in=names).order_by("pk"))
    if group is not None:
        group.user_set.add(*users)
    return users
