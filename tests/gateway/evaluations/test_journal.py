"""What a command was answered so far, over kills, other questions and second commands."""

from pathlib import Path
from typing import Any

import pytest

from gateway.answering import Place
from gateway.client import CommandFailed
from gateway.evaluations.here import facts_of
from gateway.evaluations.journal import Facts, open_journal
from gateway.evaluations.spec import EvaluationSpec
from gateway.settings import GatewaySettings
from gateway.tables import EvaluationAnswer
from shared.errors import InvalidRequest
from shared.prompt_template import PromptTemplate
from shared.storage import write_manifest
from tests.gateway.parts import asynchronous

FACTS: Facts = {"rows": "sha", "temperature": 0}
# What some take for the end of a line.
ODD = "one\u2028two\x85three\x0bfour\nfive ü"


def answer(place: int, **changes: Any) -> EvaluationAnswer:
    return EvaluationAnswer(evaluation_id="ev", candidate=0, place=place, text=ODD, **changes)


async def kept(path: Path, *answers: EvaluationAnswer) -> None:
    with open_journal(path, FACTS) as journal:
        for one in answers:
            await journal.keep(one)


@asynchronous
async def test_answers_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "out" / "answers.jsonl"
    await kept(path, answer(0), answer(1, error="gone"), answer(2, error="no", refused=True))
    await kept(path, answer(0, verdicts={"unreadable": 0}), answer(3, log_likelihood=-1.5))
    with open_journal(path, FACTS) as journal:
        found = journal.answers
    # What came to nothing is asked again; the later one of two counts.
    assert set(found) == {(0, 0), (0, 2), (0, 3)}
    assert {one.text for one in found.values()} == {ODD}
    assert found[0, 0].verdicts == {"unreadable": 0} and found[0, 3].log_likelihood == -1.5


@asynchronous
async def test_a_kill_at_any_byte_costs_no_whole_answer(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    await kept(path, answer(0), answer(1))
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for end in sorted({*range(0, len(whole), 31), *ends, *(end - 1 for end in ends)}):
        path.write_bytes(whole[:end])
        with open_journal(path, FACTS) as journal:
            assert len(journal.answers) == max(0, whole[:end].count(b"\n") - 1)
        await kept(path, answer(2))
        with open_journal(path, FACTS) as journal:
            assert (0, 2) in journal.answers
    path.write_bytes(whole.replace(b'"place": 0', b'"place" 0'))
    with pytest.raises(CommandFailed, match="Line 2 of"), open_journal(path, FACTS):
        pass


@asynchronous
async def test_answers_to_something_else_are_none(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    await kept(path, answer(0))
    other = {**FACTS, "temperature": 1}
    with (
        pytest.raises(InvalidRequest, match="another evaluation: temperature changed"),
        open_journal(path, other),
    ):
        pass
    with (
        open_journal(path, FACTS) as journal,
        pytest.raises(CommandFailed, match="Another `genplat evaluate` works"),
        open_journal(path, FACTS),
    ):
        assert len(journal.answers) == 1


@asynchronous
async def test_what_holds_no_answer_keeps_no_other_question_away(tmp_path: Path) -> None:
    """A command that ended before anything was answered: its candidate's name was wrong."""
    path = tmp_path / "answers.jsonl"
    await kept(path, answer(0, error="gone"))
    other = {**FACTS, "temperature": 1}
    with open_journal(path, other) as journal:
        await journal.keep(answer(1))
    with open_journal(path, other) as journal:
        assert set(journal.answers) == {(0, 1)}


def test_facts_are_what_answers_depend_on(tmp_path: Path) -> None:
    rows, result = tmp_path / "rows.csv", tmp_path / "trained" / "result"
    rows.write_text("text,target\na,b\n")
    result.mkdir(parents=True)
    PromptTemplate(base_model="a/b", stop_token_ids=(2,)).save(result)
    write_manifest(result)
    place = Place(GatewaySettings(data_dir=tmp_path / "data"), local=True)

    def facts(metrics: tuple[str, ...] = ("chrf",), **changes: Any) -> Facts:
        given = {"dataset_id": "local", "candidates": ["a/b", str(result.parent)], **changes}
        return facts_of(EvaluationSpec.model_validate(given), rows, metrics, place)

    same = facts()
    assert same == facts(("bleu",), name="x", confidence=0.9, baseline=str(result.parent))
    # A perplexity can be told of no answer that was had without it.
    assert same != facts(("bleu", "perplexity"))
    judged = {"model": "upstream/large", "against": "baseline"}
    assert facts(judge=judged) != facts(judge=judged, baseline=str(result.parent))
    # Trained anew into the same folder, it is another model.
    (result / "weights").write_bytes(b"other")
    write_manifest(result)
    assert facts() != same
    with pytest.raises(CommandFailed, match="no finished training"):
        facts(candidates=[str(tmp_path)])
