"""The models that forms and the chat let a user choose from, with what to call them."""

from gateway import library, models, run_views
from gateway.evaluations.views import list_evaluations
from gateway.services import Services
from gateway.tables import Dataset
from shared.route_labels import UPSTREAM_PREFIX
from ui.formats import moment, plural, short_model

Choice = tuple[str, str]
SHOWN_RUNS = 100

_STATES = {
    "ready": "ready",
    "available": "on this machine",
    "preparing": "being prepared",
    "failed": "could not be prepared",
    "missing": "has to be downloaded",
}
_KINDS = (
    ("deployment", "Deployments"),
    ("route", "Routes"),
    ("fine-tuned", "Fine-tuned"),
    ("base", "Base models"),
)


def base_model_choices(services: Services, owner: str) -> list[Choice]:
    items = library.list_library(database=services.database, storage=services.storage, owner=owner)
    return [(item.entry.id, f"{item.entry.name} ({_STATES[item.state]})") for item in items]


def dataset_choice(dataset: Dataset) -> Choice:
    return dataset.id, f"{dataset.name} v{dataset.version}, {plural(dataset.rows, 'row')}"


def deployable_choices(services: Services, owner: str) -> list[Choice]:
    """Runs that succeeded, newest first, then base models whose weights are here."""
    runs = run_views.list_runs(database=services.database, owner=owner, limit=SHOWN_RUNS).data
    tuned = [(run.id, _run_name(run)) for run in runs if run.status == "succeeded"]
    items = library.list_library(database=services.database, storage=services.storage, owner=owner)
    base = [(item.entry.id, item.entry.name) for item in items if item.state != "missing"]
    return tuned + base


def continue_choices(services: Services, owner: str, wanted: str) -> list[Choice]:
    """Weights that a run may begin with. ``wanted``, a checkpoint or an older run, is one of
    them: whether it is there is found out when the run starts."""
    runs = run_views.list_runs(database=services.database, owner=owner, limit=SHOWN_RUNS).data
    tuned = [(run.id, _run_name(run)) for run in runs if run.status == "succeeded"]
    known = dict(tuned)
    if wanted and wanted not in known:
        run_id, _, checkpoint = wanted.partition(":ckpt-step-")
        name = known.get(run_id, run_id)
        tuned.insert(
            0, (wanted, f"{name}, checkpoint at step {checkpoint}" if checkpoint else name)
        )
    return [("", "The base model as it is"), *tuned]


def _run_name(run: run_views.RunView) -> str:
    name = run.spec.get("suffix") or run.id
    return f"{name}, over {short_model(run.base_model)}"


def chat_choices(services: Services, owner: str) -> list[tuple[str, list[Choice]]]:
    """Every name that answers, grouped by what it is."""
    served = models.list_served_models(
        database=services.database, storage=services.storage, owner=owner
    )
    groups = [
        (title, [(model.id, model.id) for model in served if model.kind == kind])
        for kind, title in _KINDS
    ]
    return [(title, choices) for title, choices in groups if choices]


def run_choices(services: Services, owner: str) -> list[Choice]:
    """Runs that succeeded, newest first."""
    runs = run_views.list_runs(database=services.database, owner=owner, limit=SHOWN_RUNS).data
    return [(run.id, _run_name(run)) for run in runs if run.status == "succeeded"]


def evaluable_choices(services: Services, owner: str) -> list[tuple[str, list[Choice]]]:
    """Whoever can answer in an evaluation, or judge: runs by their names, service LLMs too."""
    groups = [
        (title, choices)
        for title, choices in chat_choices(services, owner)
        if title != dict(_KINDS)["fine-tuned"]
    ]
    labels = [f"{UPSTREAM_PREFIX}{name}" for name in sorted(services.upstreams.upstreams)]
    groups += [
        ("Runs", run_choices(services, owner)),
        ("Service LLMs", [(label, label) for label in labels]),
    ]
    return [(title, choices) for title, choices in groups if choices]


def evaluation_choices(services: Services, owner: str) -> list[Choice]:
    """Evaluations that a deployment may require, newest first."""
    found = list_evaluations(database=services.database, owner=owner, limit=SHOWN_RUNS).data
    return [
        (one.id, f"{one.name}, {plural(one.examples, 'example')}, {moment(one.created_at)}")
        for one in found
        if one.status == "succeeded"
    ]
