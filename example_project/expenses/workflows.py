"""Travel expenses at a university, as its log of 10,357 declarations shows them to be approved.

Who approves differs from unit to unit: some have a pre-approver, some an administration, some budget
owners, and each approver says who is next. While others look at it, the employee may take the
declaration back. After the final approval the payment office releases the payment, or sends the
declaration back.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django_workflows import (
    Retry,
    Workflow,
    approval,
    decision,
    end,
    fork,
    group,
    human,
    initiator,
    join,
    machine,
    step_function,
)

LABELS = {"approved": "Approve and forward", "final_approved": "Approve", "rejected": "Reject"}

#: Approvers from the first to the last; a declaration is forwarded upwards only.
LADDER = ("pre_approver", "administration", "budget_owner", "supervisor", "director")


def forward_form(*roles: str, default: str) -> dict[str, Any]:
    """The form on which somebody says who looks at the declaration next."""
    field = {"type": "string", "title": "Forward to", "enum": list(roles), "default": default}
    return {"type": "object", "properties": {"forward_to": field}}


@step_function(name="expenses.note_approved")
def note_approved(ctx: Any) -> None:
    ctx.set("verdict", "approved")


@step_function(name="expenses.note_rejected")
def note_rejected(ctx: Any) -> None:
    ctx.set("verdict", "rejected")


@step_function(name="expenses.note_recalled")
def note_recalled(ctx: Any) -> None:
    ctx.set("verdict", "recalled")


@step_function(name="expenses.request_payment")
def request_payment(ctx: Any) -> dict[str, str]:
    """Put the payment into the payment office's books, in the same transaction as the step."""
    from .models import Payment  # models are not there yet when this module is discovered early

    amount = Decimal(str(ctx.get("amount", 0))).quantize(Decimal("0.01"))
    Payment.objects.create(instance_id=ctx.instance_id, number=str(ctx.get("number", "")), amount=amount)
    return {"amount": str(amount)}


@step_function(name="expenses.payment_handled")
def payment_handled(ctx: Any) -> dict[str, int]:
    from .models import Payment

    paid = Payment.objects.filter(instance_id=ctx.instance_id, status=Payment.Status.REQUESTED)
    return {"payments": paid.update(status=Payment.Status.HANDLED)}


def review(role: str, title: str, who: str, *outcomes: str, default: str = "supervisor") -> Any:
    """The look that one role takes at a declaration."""
    higher = LADDER[LADDER.index(role) + 1 :]
    return approval(
        title=f"{title}: {{{{ data.number }}}}",
        instructions="Amount: {{ data.amount }}",
        assign=group(who),
        outcomes=(*outcomes, "rejected"),
        labels={outcome: LABELS[outcome] for outcome in (*outcomes, "rejected")},
        form=forward_form(*higher, default=default) if "approved" in outcomes else None,
        merge="forward_to" if "approved" in outcomes else (),
        due="3d",
        exclude="initiator",
    )


class TravelExpense(Workflow):
    """Reimburse a domestic trip."""

    name = "travel-expense"
    title = "Travel expense"
    version = "1"
    tags = ("finance",)
    instance_title = "{{ data.number }}"
    data_schema = {
        "type": "object",
        "properties": {
            "number": {"type": "string", "title": "Declaration number", "maxLength": 100},
            "amount": {"type": "number", "title": "Amount (EUR)", "minimum": 0},
        },
        "required": ["number", "amount"],
    }
    outputs = {"amount": "data.amount", "paid": "has(steps.payment_handled.outcome)"}

    draft = human(
        title="Submit {{ data.number }}",
        assign=initiator(),
        outcomes=("submitted", "withdrawn"),
        labels={"submitted": "Submit", "withdrawn": "Withdraw"},
        form=forward_form(*LADDER, default="supervisor"),
        merge="forward_to",
    )
    in_review = fork(title="In review")
    route = decision(title="Who is next?")
    pre_approver = review("pre_approver", "Pre-approve", "pre-approvers", "approved")
    administration = review("administration", "Check", "administration", "approved", "final_approved")
    budget_owner = review("budget_owner", "Approve the budget", "budget-owners", "approved", "final_approved")
    supervisor = review("supervisor", "Approve", "supervisors", "final_approved", "approved", default="director")
    director = review("director", "Approve", "directors", "final_approved")
    recall = human(
        title="Take back {{ data.number }}",
        assign=initiator(),
        outcomes=("recalled",),
        labels={"recalled": "Take back"},
        priority=-1,
    )
    approved = machine(note_approved, mode="inline")
    rejected = machine(note_rejected, mode="inline")
    recalled = machine(note_recalled, mode="inline")
    reviewed = join("any", title="Reviewed")
    verdict = decision()
    rework = human(
        title="Rejected: {{ data.number }}",
        assign=initiator(),
        outcomes=("resubmitted", "taken_back"),
        labels={"resubmitted": "Submit again", "taken_back": "Take back"},
        form=forward_form(*LADDER, default="supervisor"),
        merge="forward_to",
        due="2w",
    )
    revise = human(
        title="Revise {{ data.number }}",
        assign=initiator(),
        outcomes=("resubmitted", "withdrawn"),
        labels={"resubmitted": "Submit again", "withdrawn": "Withdraw"},
        form=forward_form(*LADDER, default="supervisor"),
        merge="forward_to",
    )
    release = human(
        title="Release the payment: {{ data.number }}",
        assign=group("payment-office"),
        outcomes=("released", "rejected"),
        labels={"released": "Release", "rejected": "Send back"},
        due="1w",
    )
    request_payment = machine(request_payment, mode="transactional", retry=Retry(attempts=3))
    settle = human(
        title="Settle the payment: {{ data.number }}",
        assign=group("payment-office"),
        outcomes=("settled", "rejected"),
        labels={"settled": "Paid", "rejected": "Send back"},
        due="1w",
    )
    payment_handled = machine(payment_handled, mode="transactional", retry=Retry(attempts=3))
    paid = end("paid")
    withdrawn = end("withdrawn")

    flow = [
        draft.on("submitted") >> in_review,
        draft.on("withdrawn") >> withdrawn,
        in_review >> [route, recall],
        recall >> recalled >> reviewed,
        route.when('data.forward_to == "pre_approver"', label="pre-approver") >> pre_approver,
        route.when('data.forward_to == "administration"', label="administration") >> administration,
        route.when('data.forward_to == "budget_owner"', label="budget owner") >> budget_owner,
        route.when('data.forward_to == "director"', label="director") >> director,
        route.otherwise >> supervisor,
        [
            pre_approver.on("approved"),
            administration.on("approved"),
            budget_owner.on("approved"),
            supervisor.on("approved"),
        ]
        >> route,
        [
            administration.on("final_approved"),
            budget_owner.on("final_approved"),
            supervisor.on("final_approved"),
            director.on("final_approved"),
        ]
        >> approved,
        [
            pre_approver.on("rejected"),
            administration.on("rejected"),
            budget_owner.on("rejected"),
            supervisor.on("rejected"),
            director.on("rejected"),
        ]
        >> rejected,
        approved >> reviewed,
        rejected >> reviewed,
        reviewed >> verdict,
        verdict.when('data.verdict == "approved"', label="approved") >> release,
        verdict.when('data.verdict == "recalled"', label="taken back") >> revise,
        verdict.otherwise >> rework,
        rework.on("resubmitted") >> in_review,
        rework.on("taken_back") >> revise,
        revise.on("resubmitted") >> in_review,
        revise.on("withdrawn") >> withdrawn,
        release.on("released") >> request_payment >> settle,
        release.on("rejected") >> rework,
        settle.on("settled") >> payment_handled >> paid,
        settle.on("rejected") >> rework,
    ]
