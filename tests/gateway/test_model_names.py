"""The names of fine-tuned models and their checkpoints, back and forth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database import Database
from gateway.model_names import (
    checkpoint_model,
    find_run,
    fine_tuned_model,
    is_fine_tuned,
    split_checkpoint,
)
from gateway.tables import Run
from tests.gateway.parts import add_dataset


def stored(database: Database, owner: str = "ann", **spec: str) -> Run:
    with database.write() as session:
        run = Run(owner=owner, spec=spec, base_model="some:odd/model", dataset_id="ds_test")
        session.add(run)
    return run


def test_a_name_leads_back_to_its_run(database: Database) -> None:
    add_dataset(database)
    run, other = stored(database, suffix="uml"), stored(database, owner="bob")
    name = fine_tuned_model(run)
    assert name == f"ft:some:odd/model:genplat:uml:{run.id[-8:]}"
    assert split_checkpoint(checkpoint_model(run, 12)) == (name, 12)
    with database.read() as session:
        for known in (name, run.id):
            found = find_run(session, "ann", known)
            assert found is not None and found.id == run.id
            assert find_run(session, "bob", known) is None
        wrong = (
            "",
            "ft:",
            name.replace("uml", "umk"),
            name[:-1],
            f"{name}:ckpt-step-1",
            fine_tuned_model(other),
            "ft:x:genplat::%%%%%%%%",
            "ft:x:genplat::________",
        )
        assert not [text for text in wrong if find_run(session, "ann", text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run_a:ckpt-step-7", ("run_a", 7)),
        ("run_a:ckpt-step-", ("run_a:ckpt-step-", None)),
        ("run_a:ckpt-step-7x", ("run_a:ckpt-step-7x", None)),
        (":ckpt-step-7", (":ckpt-step-7", None)),
        ("a:ckpt-step-1:ckpt-step-2", ("a:ckpt-step-1", 2)),
        ("run_a:ckpt-step-9999999999", ("run_a:ckpt-step-9999999999", None)),
    ],
)
def test_a_step_is_split_off(text: str, expected: tuple[str, int | None]) -> None:
    assert split_checkpoint(text) == expected


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_none(text: str) -> None:
    name, step = split_checkpoint(text)
    assert (step is None and name == text) or text.startswith(f"{name}:ckpt-step-")
    assert isinstance(is_fine_tuned(text), bool)
