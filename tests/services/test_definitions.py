from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command

from django_workflows import approval, checks, group, machine, registry, services, user
from django_workflows.core.codec import dumps
from django_workflows.exceptions import (
    DefinitionConflict,
    DefinitionNotFound,
    FunctionNotRegistered,
    InvalidDefinition,
    InvalidInput,
    TransitionNotAllowed,
)
from django_workflows.models import WorkflowDefinition, WorkflowEvent

pytestmark = pytest.mark.django_db

JSON = {"name": "leave", "steps": [{"name": "ask", "type": "approval", "assign": {"groups": ["leads"]}}]}


def work(ctx: Any) -> None: ...


def test_publishing_the_same_again_makes_no_new_row(make_workflow: Any) -> None:
    workflow = make_workflow(ask=approval(assign=group("a")))

    rows = [services.publish(workflow, by=services.SYSTEM) for _ in range(2)]

    assert rows[0].pk == rows[1].pk
    assert WorkflowEvent.objects.filter(definition=rows[0], name="definition_published").count() == 1


def test_a_published_version_never_changes_and_the_difference_is_named(make_workflow: Any) -> None:
    services.publish(make_workflow(ask=approval(assign=group("a"))), by=services.SYSTEM)

    with pytest.raises(DefinitionConflict) as refusal:
        services.publish({**JSON, "name": "sample"}, by=services.SYSTEM)

    assert "steps.ask.assign.groups" in str(refusal.value)
    assert WorkflowDefinition.objects.get(name="sample").content["steps"][0]["assign"] == {"groups": ["a"]}


def test_code_that_differs_from_what_is_published_is_an_error_of_the_checks(make_workflow: Any) -> None:
    workflow = make_workflow(ask=approval(assign=group("a")))
    services.publish({**JSON, "name": "sample"}, by=services.SYSTEM)

    found = checks.check_drift(None, databases=["default"])

    assert [message.id for message in found] == ["workflows.E008"]
    assert "steps.ask.assign.groups" in found[0].msg
    registry.definition_of(workflow)


def test_json_may_only_use_functions_that_code_has_registered() -> None:
    with pytest.raises(FunctionNotRegistered):
        services.publish(
            {"name": "x", "steps": [{"name": "a", "type": "machine", "function": "os.getcwd"}]}, by=services.SYSTEM
        )

    assert not WorkflowDefinition.objects.filter(name="x").exists()


def test_an_invalid_definition_is_refused_with_all_its_problems() -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        services.publish({"name": "x y", "version": "z", "steps": []}, by=services.SYSTEM)

    assert {problem.code for problem in refusal.value.problems} == {"invalid_name", "invalid_version", "no_steps"}


@pytest.mark.parametrize("source", [None, 5, [], "{", "- a"], ids=repr)
def test_what_is_no_definition_is_a_typed_error(source: Any) -> None:
    with pytest.raises((InvalidInput, InvalidDefinition)):
        services.publish(source, by=services.SYSTEM)


def test_a_draft_may_be_wrong_starts_nothing_and_is_frozen_by_publishing() -> None:
    draft = services.save_draft(
        {**JSON, "steps": [*JSON["steps"], {"name": "lost", "type": "end"}], "edges": []}, by=services.SYSTEM
    )
    with pytest.raises(DefinitionNotFound):
        services.start("leave", by=services.SYSTEM)
    with pytest.raises(InvalidDefinition):
        services.publish(draft, by=services.SYSTEM)

    assert services.save_draft(JSON, by=services.SYSTEM).pk == draft.pk
    draft.refresh_from_db()
    published = services.publish(draft, by=services.SYSTEM)

    assert (published.pk, published.status) == (draft.pk, "published")
    assert services.start("leave", by=services.SYSTEM).workflow == "leave"
    with pytest.raises(DefinitionConflict):
        services.save_draft(JSON, by=services.SYSTEM)


def test_a_version_can_be_retired_once(make_workflow: Any) -> None:
    services.publish(make_workflow(ask=approval(assign=group("a"))), by=services.SYSTEM)

    services.retire("sample", by=services.SYSTEM)

    with pytest.raises(TransitionNotAllowed):
        services.retire("sample", by=services.SYSTEM)
    with pytest.raises(DefinitionNotFound):
        services.retire("unheard-of", by=services.SYSTEM)


def test_two_classes_with_one_name_and_version_are_refused(make_workflow: Any) -> None:
    make_workflow(ask=approval(assign=group("a")))

    with pytest.raises(DefinitionConflict):
        make_workflow(ask=approval(assign=group("b")))


def test_the_registry_knows_names_and_versions_in_order(make_workflow: Any) -> None:
    for version in ("2", "10", "1"):
        make_workflow(version=version, ask=approval(assign=group("a")))

    assert registry.versions("sample") == ("1", "2", "10")
    assert registry.get("sample").version == "10"  # type: ignore[attr-defined]
    assert registry.has("sample", "2")
    with pytest.raises(DefinitionNotFound):
        registry.get("sample", "3")


def test_a_lambda_has_no_name_to_be_stored_under(make_workflow: Any) -> None:
    workflow = make_workflow(one=machine(lambda ctx: None))

    with pytest.raises(TypeError, match="has no name"):
        services.publish(workflow, by=services.SYSTEM)


def test_a_function_name_means_one_function() -> None:
    def work(ctx: Any) -> None: ...

    registry.register_function(globals()["work"], "tests.work")
    with pytest.raises(DefinitionConflict):
        registry.register_function(work, "tests.work")


def test_mirroring_publishes_what_code_has_and_rows_have_not(make_workflow: Any) -> None:
    make_workflow(ask=approval(assign=user("a")))

    assert [row.name for row in services.mirror()] == ["sample"]
    assert services.mirror() == []


def test_the_command_publishes_validates_and_lists(tmp_path: Any, capsys: Any, make_workflow: Any) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.yaml"
    good.write_text(dumps(services.read(JSON)))
    bad.write_text("name: x\nsteps:\n  - {name: a, type: nothing}\n")

    call_command("workflows", "publish", str(good))
    call_command("workflows", "definitions")
    with pytest.raises(SystemExit) as stop:
        call_command("workflows", "validate", str(tmp_path))

    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "leave 1 is published." in out
    assert "bad.yaml: error: line 3, column" in out
