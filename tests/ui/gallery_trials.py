"""The pages of experiments and migrations, in the states that matter."""

from types import SimpleNamespace
from typing import Any

from tests.ui.texts import EVIL, NOW
from ui import trials
from ui.rendering import render

PLACES = {"sources": ["upstream/large"], "targets": ["mine", "upstream/large"]}


def _arm(label: str, rate: float | None) -> SimpleNamespace:
    return SimpleNamespace(
        label=label, rate=rate, units=640, requests=1200, errors=7, p50_seconds=1.2, p95_seconds=4.0
    )


def experiment(**changes: Any) -> SimpleNamespace:
    looks = [
        SimpleNamespace(units=units, difference=0.01, low=0.01 - 9 / units, high=0.01 + 9 / units)
        for units in range(40, 1281, 40)
    ]
    standing = SimpleNamespace(
        control=_arm("upstream/large", 0.81),
        treatment=_arm("mine", 0.82),
        difference=0.01,
        low=-0.03,
        high=0.05,
        null=-0.05,
        p_value=0.0312,
        units=1280,
        needed_units=2500,
        days_left=3.4,
        guards=[
            SimpleNamespace(name="max_error_increase", value=0.01, limit=0.02, tripped=False),
            SimpleNamespace(name="p95_seconds 5", value=0.2, limit=0.05, tripped=True),
        ],
    )
    values: dict[str, Any] = {
        "status": "running",
        "control": "upstream/large",
        "treatment": "mine",
        "share": 0.1,
        "terms": SimpleNamespace(outcome="thumbs"),
        "standing": standing,
        "looks": looks,
        "decisions": [SimpleNamespace(at=NOW, status="running", why=EVIL, did="Weights: mine 10")],
        "created_at": NOW,
    }
    return SimpleNamespace(**(values | changes))


def migration(**changes: Any) -> SimpleNamespace:
    steps = [
        SimpleNamespace(share=0, state="held", experiment=experiment(status="succeeded")),
        SimpleNamespace(share=0.1, state="runs", experiment=experiment()),
        SimpleNamespace(share=0.5, state="set_back", experiment=experiment(standing=None)),
        SimpleNamespace(share=1, state="waits", experiment=None),
    ]
    values: dict[str, Any] = {
        "status": "running",
        "source": "upstream/large",
        "target": "mine",
        "setbacks": 1,
        "spec": SimpleNamespace(max_setbacks=3, outcome="thumbs"),
        "steps": steps,
        "decisions": experiment().decisions,
        "created_at": NOW,
    }
    return SimpleNamespace(**(values | changes))


def _shadow() -> SimpleNamespace:
    sides = [
        SimpleNamespace(
            answered=share, rendered=rendered, median_seconds=1.25, median_characters=312
        )
        for share, rendered in ((1.0, 0.9), (0.95, None))
    ]
    return SimpleNamespace(
        shadow=EVIL, pairs=200, compared=190, alike=0.61, readers=sides[0], shadows=sides[1]
    )


def readiness(status: str) -> SimpleNamespace:
    figures = SimpleNamespace(
        score=71.3,
        low=64.0,
        high=78.8,
        prompts=30,
        lost=SimpleNamespace(unanswered=3.3, undrawn=6.7, unlike=18.0, slow=0.7),
        median_seconds=2.25,
        reader_median_seconds=1.5,
    )
    return SimpleNamespace(
        status=status,
        fallback="mine",
        figures=figures if status == "done" else None,
        error=EVIL if status == "failed" else None,
        created_at=NOW,
        ended_at=None if status == "queued" else NOW,
    )


def trial_pages() -> dict[str, str]:
    return {
        "experiment-new": _experiment(None, errors={"share": EVIL, "guardrails": EVIL}, error=EVIL),
        "experiment": _experiment(experiment()),
        "experiment-ended": _experiment(experiment(status="rolled_back", looks=[])),
        "experiment-unseen": _experiment(experiment(standing=None)),
        "migration-new": _migration(None, errors={"steps": "Must rise.", "from": "Choose one."}),
        "migration": _migration(migration()),
        "migration-paused": _migration(migration(status="paused")),
        "shadow-empty": render("routes/shadow.html", name="support", comparisons=[]),
        "shadow": render("routes/shadow.html", name="support", comparisons=[_shadow()]),
        "migration-done": _migration(migration(status="succeeded", setbacks=0)),
    }


def _experiment(shown: Any, **changes: Any) -> str:
    context: dict[str, Any] = {
        "name": "support",
        "experiment": shown,
        "figures": shown and trials.figures(shown),
        "in_migration": False,
        "outcomes": trials.IN_WORDS,
        "goals": trials.GOALS,
        "forecast": ["50%: about 7,600 units, under a day at 9,000 a day.", EVIL],
        "outcome_choices": trials.OUTCOMES,
        "values": trials.EXPERIMENT_FORM,
        "errors": {},
        "error": None,
    }
    return render("routes/experiment.html", **(context | PLACES | changes))


def _migration(shown: Any, **changes: Any) -> str:
    begun = [step for step in shown.steps if step.experiment] if shown else []
    context: dict[str, Any] = {
        "name": "support",
        "migration": shown,
        "shown": [(step, trials.figures(step.experiment)) for step in begun],
        "states": trials.STATES,
        "outcomes": trials.IN_WORDS,
        "setbacks": trials.SETBACKS,
        "forecast": ["Shadow: about 1,500 units."],
        "outcome_choices": trials.OUTCOMES,
        "values": trials.MIGRATION_FORM,
        "errors": {},
        "error": None,
    }
    return render("routes/migration.html", **(context | PLACES | changes))
