"""The way of a new user from data to answers, and how far they have come."""

from dataclasses import dataclass

from ui.formats import plural


@dataclass(frozen=True)
class Step:
    title: str
    text: str
    href: str
    action: str
    done: bool
    state: str


def start_steps(
    *, datasets: int, runs: int, succeeded: int, live: int, deployments: int, newest_success: str
) -> list[Step]:
    """The four steps; ``newest_success`` is the id of the run to deploy."""
    run_state = f"{plural(live, 'run')} under way" if live else "Not started"
    return [
        Step(
            "Bring your data",
            "A CSV or JSON Lines file: a text, and the answer you want.",
            "/datasets" if datasets else "/datasets/new",
            "Upload a file",
            datasets > 0,
            plural(datasets, "dataset") if datasets else "Nothing uploaded yet",
        ),
        Step(
            "Fine-tune a model",
            "Choose data and a base model. Watch it learn.",
            "/runs" if runs else "/runs/new",
            "Watch the run" if live else "Start a run",
            succeeded > 0,
            plural(succeeded, "finished run") if succeeded else run_state,
        ),
        Step(
            "Deploy it",
            "Keep it loaded, under a name that programs can call.",
            "/deployments" if deployments else f"/deployments/new?model={newest_success}",
            "Deploy a model",
            deployments > 0,
            plural(deployments, "deployment") if deployments else "Nothing deployed yet",
        ),
        Step(
            "Ask it",
            "In the chat, as text or as a diagram, or over the API.",
            "/chat",
            "Open chat",
            False,
            "Open whenever you like",
        ),
    ]


def next_step(steps: list[Step]) -> Step | None:
    """The first step that is open; None when only asking is left."""
    return next((step for step in steps[:-1] if not step.done), None)
