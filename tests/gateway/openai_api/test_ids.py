"""Ids of `/v1` and of `/api`: the same things, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai_api import ids
from gateway.tables import new_id
from shared.errors import GenPlatError, NotFound


@pytest.mark.parametrize("kind", ["ds", "run", "bf"])
def test_there_and_back(kind: str) -> None:
    stored = new_id(kind)
    assert ids.stored_id(ids.file_id(stored)) == stored
    if kind == "run":
        assert ids.run_id(ids.job_id(stored)) == stored


def test_a_dataset_and_a_run_with_the_same_tail_are_two_files() -> None:
    assert (ids.file_id("ds_x"), ids.file_id("run_x")) == ("file-x", "file-result-x")
    assert (ids.stored_id("file-x"), ids.stored_id("file-result-x")) == ("ds_x", "run_x")


@given(st.text() | st.text().map("file-{}".format) | st.text().map("ftjob-{}".format))
def test_what_is_no_id_is_refused(text: str) -> None:
    for read in (ids.stored_id, ids.run_id, lambda one: ids.dataset_id(one, "training_file")):
        try:
            found = read(text)
        except GenPlatError as error:
            assert error.message.isprintable()
        else:
            assert found.partition("_")[2] == text.removeprefix("file-").removeprefix("ftjob-")


def test_results_cannot_be_learned_from() -> None:
    with pytest.raises(GenPlatError, match="no file to learn from"):
        ids.dataset_id("file-result-x", "training_file")
    with pytest.raises(NotFound):
        ids.stored_id("file-result-")
