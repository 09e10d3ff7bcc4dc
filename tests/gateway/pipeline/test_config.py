"""What a pipeline's file may say; references; fingerprints."""

from pathlib import Path

import pytest

from gateway.orchestrator.routes import MAX_TARGETS
from gateway.orchestrator.shares import promoted, weighted
from gateway.pipeline.config import Made, Step, read_pipeline
from gateway.pipeline.state import Done, State, fingerprint
from shared.errors import InvalidRequest

GOOD = """\
name: loop
steps:
  - synthesize: {model: m, dataset: seed.jsonl, count: 3}
  - train: {base_model: b, dataset: "${synthesize.jsonl}", method: lora}
  - evaluate: {candidates: [b, "${train.model}"], dataset: test.jsonl}
  - gate: {id: better, evaluation: "${evaluate.evaluation}", rules: ["rougeL >= base"]}
  - deploy: {name: small, model: "${train.model}"}
  - promote: {route: support, deployment: "${deploy.name}", weight: 10}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    return path


def test_a_pipeline_is_read_whole(tmp_path: Path) -> None:
    found = read_pipeline(written(tmp_path, GOOD))
    assert [step.id for step in found.steps] == [
        "synthesize",
        "train",
        "evaluate",
        "better",
        "deploy",
        "promote",
    ]
    assert found.output_dir == tmp_path / ".genplat" / "pipelines" / "loop"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("synthesize: {", "synthesise: {", "there is no 'synthesise'"),
        ("count: 3", "conut: 3", "there is no 'conut'"),
        ("${synthesize.jsonl}", "${nobody.jsonl}", "no step 'nobody' before it"),
        ("${synthesize.jsonl}", "${train.model}", "no step 'train' before it"),
        ("${synthesize.jsonl}", "${synthesize.model}", "synthesize makes jsonl, parquet"),
        ("id: better", "id: train", "Two steps are called 'train'"),
        ("route: support, ", "", "route is missing"),
        ("name: loop", "name: ../loop", "name must be"),
        ("name: loop", "output_dir: pipeline.yaml", "output_dir: .* is no folder"),
        ("name: loop", "colour: red", "there is no 'colour'"),
        ("{model: m, dataset: seed.jsonl, count: 3}", "[1, 2]", "must hold keys and values"),
        ("count: 3}", "count: 3", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in GOOD
    with pytest.raises(InvalidRequest, match=said.replace("[", r"\[")):
        read_pipeline(written(tmp_path, GOOD.replace(before, after)))


def test_a_reference_alone_keeps_its_type_and_one_in_a_text_becomes_text() -> None:
    made = Made({"a": {"n": 3, "f": "/x.jsonl", "none": None}})
    given = {"x": "${a.n}", "y": ["of ${a.n} in ${a.f}"], "z": {"k": "${a.f}"}, "w": 1}
    assert made.resolved(given) == {
        "x": 3,
        "y": ["of 3 in /x.jsonl"],
        "z": {"k": "/x.jsonl"},
        "w": 1,
    }
    with pytest.raises(InvalidRequest, match="made none"):
        made.resolved("${a.none}")


def test_a_fingerprint_holds_keys_files_and_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "seed.jsonl").write_text("one")
    step = Step("s", "synthesize", {})

    def of(before: str = "", **content: object) -> str:
        return fingerprint(step, {"dataset": "seed.jsonl"} | content, tmp_path, before)

    first = of()
    assert first == of()
    assert len({first, of(count=3), of(before="x")}) == 3
    (tmp_path / "seed.jsonl").write_text("two")
    assert of() != first


def test_the_state_outlives_its_process_and_notices_lost_results(tmp_path: Path) -> None:
    step, result = Step("s", "batch", {}), tmp_path / "result"
    result.write_text("x")
    from gateway.pipeline.state import digest

    done = Done("f", True, 1, {"jsonl": str(result)}, {str(result): str(digest(result))})
    State(tmp_path / "state.json").note(step, done)
    state = State(tmp_path / "state.json")
    assert state.of(step, "f") == done
    assert not state.of(step, "other").finished
    result.write_text("changed")
    again = state.of(step, "f")
    assert (again.finished, again.attempt) == (False, 2)


def test_a_promotion_leaves_the_others_their_shares() -> None:
    targets = [{"upstream": "big", "weight": 3}, {"deployment": "old", "weight": 1}]
    assert weighted(targets, "new", 20) == [
        {"upstream": "big", "weight": 60},
        {"deployment": "old", "weight": 20},
        {"deployment": "new", "weight": 20},
    ]
    assert weighted(targets, "old", 100) == [
        {"upstream": "big", "weight": 0},
        {"deployment": "old", "weight": 100},
    ]
    assert weighted([{"deployment": "new", "weight": 1}], "new", 10) == [
        {"deployment": "new", "weight": 100}
    ]
    patient = {"deployment": "old", "weight": 1, "timeout_seconds": 9}
    assert patient | {"weight": 5} in weighted([*targets[:1], patient], "old", 5)


def test_a_promotion_leaves_all_else_of_a_route() -> None:
    route = {
        "name": "support",
        "targets": [{"upstream": "big", "weight": 1}],
        "fallbacks": [{"deployment": "old"}],
        "sticky": "user",
        "balance": "weights",
        "shadow": {"deployment": "old", "share": 0.5},
        "drill": None,
        "created_at": "today",
    }
    found = promoted(route, "new", 25)
    assert found.pop("targets") == weighted(route["targets"], "new", 25)  # type: ignore[arg-type]
    assert found == {name: route[name] for name in ("fallbacks", "sticky", "balance", "shadow")}


def test_after_many_promotions_there_is_room_for_one_more() -> None:
    targets = [{"deployment": "first", "weight": 1}]
    for number in range(40):
        targets = weighted(targets, f"model-{number}", 100)
        assert len(targets) <= MAX_TARGETS
    assert targets[-1] == {"deployment": "model-39", "weight": 100}
    assert targets[0]["deployment"] == "model-20"
