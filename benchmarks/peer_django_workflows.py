"""Ours in the contract of a collection of peer scripts (``harness.py`` and ``_dj.py`` beside ``peers/``).

Copy it into that ``peers/`` folder and run it in an environment that has this package installed.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import _dj
import harness as H

a = H.args("django_workflows")
_dj.setup(
    a,
    "django_workflows",
    ["guardian", "django_q", "django_workflows"],
    ANONYMOUS_USER_NAME=None,
    WORKFLOWS_EXECUTOR="immediate",
    AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"],
)
_dj.migrate()
from django.contrib.auth.models import User

from django_workflows import Workflow, approval, machine, services, user
from django_workflows.models import HumanTask, WorkflowInstance

MANAGERS = [User.objects.create_user(f"manager{i}") for i in range(5)]
M = MANAGERS[0]
Q = _dj.Counter().on() if a.n <= 20 else None
FORM = {"type": "object", "properties": {"approved": {"type": "boolean"}, "comment": {"type": "string"}}}


def compute(ctx):
    ctx.data["score"] = ctx.data["amount"] * 2
    return {"score": ctx.data["score"]}


def finish(ctx):
    ctx.data["result"] = "approved" if ctx.data["approved"] else "rejected"
    return {"result": ctx.data["result"]}


def count(ctx):
    ctx.data["score"] += 1


class Request(Workflow):
    name = "request"
    compute = machine(compute, mode="inline")
    approve = approval(assign=user("manager0"), form=FORM, merge="*")
    finish = machine(finish, mode="inline")


def _chain():
    body = {f"s{k}": machine(count, mode="transactional") for k in range(10)}
    for name, draft in body.items():
        draft.name = name
    return type("TenSteps", (Workflow,), {"name": "chain", **body})


Chain = _chain()
services.publish(Request, by=services.SYSTEM)
services.publish(Chain, by=services.SYSTEM)


def start(i):
    return services.start("request", by=M, data=H.payload(i)).pk


def complete(pk):
    task = HumanTask.objects.filter(instance=pk).values_list("pk", flat=True).get()
    services.decide(task, "approved", by=M, form=H.FORM)


def check(pk):
    x = WorkflowInstance.objects.get(pk=pk)
    assert x.status == "completed"
    assert x.data["result"] == "approved"


def chain(i):
    return services.start("chain", by=M, data={"score": 0}).pk


def check_b(pk):
    x = WorkflowInstance.objects.get(pk=pk)
    assert x.status == "completed"
    assert x.data["score"] == 10


def fill(total):
    for j in range(WorkflowInstance.objects.count(), total):
        pk = start(j)
        if j % 10:
            complete(pk)


def inbox20():
    rows = HumanTask.objects.inbox(M).select_related("instance")[:20]
    return len([(t.pk, t.step, t.instance.data["amount"]) for t in rows])


async def main():
    q = Q.value if Q else None
    if a.scenario == "A":
        return await H.measure_A(start, complete, check, a.n, a.warmup, q)
    if a.scenario == "B":
        return await H.measure_B(chain, check_b, a.n, max(2, a.warmup // 5), queries=q)
    return await H.measure_C(a, fill, start, complete, {"inbox20": inbox20}, check, _dj.analyze)


a.sync = True
H.emit(a, H.profiled(a, main))
