"""The walk-through of docs/migrate.md, small: a service LLM's traffic trains the model that takes
its place, step by step, and nobody notices when it dies."""

from pathlib import Path

import pytest

from tests.e2e.migration import play
from tests.e2e.migration_parts import Scene
from tests.e2e.outage import KILLED_STREAMS
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = pytest.mark.timeout(600)

# So short that a tiny random model learns it by heart.
SOURCE = "@startuml\nUser -> Shop : order\n@enduml"
DEEDS = ("orders a book", "wants tea", "asks for help", "pays the bill", "calls", "opens the door")
LEARNING = {"max_steps": 150, "learning_rate": 0.02, "per_device_train_batch_size": 4}


def test_an_own_model_takes_a_service_llms_place(tmp_path: Path) -> None:
    scenarios = [(f"The user {deed} {number}.", SOURCE) for number in range(5) for deed in DEEDS]
    scene = Scene(
        model=TINY_MODEL,
        lessons=scenarios[:18],
        held_out=scenarios[18:],
        hyperparameters=LEARNING,
        max_tokens=60,
        talk_tokens=400,
    )
    figures = play(scene, tmp_path)
    assert figures.rendered_by_service == 0
    assert figures.rows == len(scene.lessons)
    assert figures.evaluation is not None
    service, own = (
        one["metrics"]["render_rate"] for one in figures.evaluation["results"]["candidates"]
    )
    assert service["value"] == 0
    assert own["low"] > 0.1
    assert figures.steps is not None
    assert [step["state"] for step in figures.steps] == ["held", "held", "held"]
    assert (figures.streams, figures.errors) == (2 * KILLED_STREAMS, 0)
    assert figures.continued >= 1
