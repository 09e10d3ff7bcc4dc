"""Several runs side by side: their curves in one chart, what they came to, where they differ."""

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway import run_curves, run_lists, run_views
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import UNPROCESSABLE, page
from gateway.pages.run_panel import elapsed
from gateway.run_views import RunView
from gateway.services import Services
from gateway.tables import now
from ui import charts, formats
from ui.run_comparison import ComparedRow, charts_of, result_row, setting_rows

router = APIRouter(prefix="/runs", include_in_schema=False)

FEWEST, MOST = 2, 6
CURVES = ("loss", "eval_loss", "eval_mean_token_accuracy", "learning_rate")


@router.get("/compare")
def compare_runs(
    services: ServicesDep,
    owner: PageOwnerDep,
    run: Annotated[list[str] | None, Query()] = None,
    x: Literal["step", "epoch"] = "step",
) -> Response:
    ids = list(dict.fromkeys(run or []))
    if not FEWEST <= len(ids) <= MOST:
        error = f"Choose {FEWEST} to {MOST} runs in the list; {len(ids)} came here."
        return page("runs/compare.html", status=UNPROCESSABLE, error=error)
    asked: dict[str, Any] = {"database": services.database, "owner": owner}
    runs = [run_views.get_run(**asked, run_id=run_id) for run_id in ids]
    measured = [run_curves.measured_steps(**asked, run_id=run_id) for run_id in ids]
    names = [one.spec.get("suffix") or one.id[:12] for one in runs]
    settings = setting_rows(runs, _data(services, runs))
    links = {name: _link(ids, name) for name in ("step", "epoch")}
    return page(
        "runs/compare.html",
        error=None,
        runs=list(zip(runs, names, strict=True)),
        charts=charts_of(names),
        x_label=x.capitalize(),
        x=x,
        links=links,
        points=_points(measured, x),
        results=_results(runs, measured),
        differing=[row for row in settings if row.differs],
        equal=[row for row in settings if not row.differs],
    )


def _link(ids: list[str], x: str) -> str:
    return f"/runs/compare?{urlencode([*(('run', run_id) for run_id in ids), ('x', x)])}"


def _points(measured: list[Any], x: str) -> str:
    return charts.points_json(
        {
            f"{place}.{name}": points
            for place, rows in enumerate(measured)
            for name, points in charts.curves_of(rows, names=CURVES, x=x).items()
        }
    )


def _data(services: Services, runs: list[RunView]) -> list[str]:
    ids = {part for run in runs for part in run_lists.data_ids(run)}
    names = run_lists.dataset_names(database=services.database, ids=ids)

    def told(run: RunView) -> str:
        parts = run.spec.get("datasets") or [{"id": run.dataset_id, "weight": 1}]
        return ", ".join(
            names[part["id"]] + (f" × {part['weight']:g}" if part["weight"] != 1 else "")
            for part in parts
        )

    return [told(run) for run in runs]


def _results(runs: list[RunView], measured: list[Any]) -> list[ComparedRow]:
    evaluated = [[row for row in rows if row.eval_loss is not None] for rows in measured]
    best = [min(rows, key=lambda row: row.eval_loss, default=None) for rows in evaluated]
    last = [rows[-1] if rows else None for rows in evaluated]
    return [
        result_row("State", [run.status for run in runs], str),
        result_row("Steps", [run.step for run in runs], formats.number),
        result_row("Training loss, last", [run.loss for run in runs], formats.loss, min),
        result_row("Validation loss, last", [run.eval_loss for run in runs], formats.loss, min),
        result_row(
            "Validation loss, best",
            [row and row.eval_loss for row in best],
            formats.loss,
            min,
            [f"step {row.step:,}" if row else "" for row in best],
        ),
        result_row(
            "Token accuracy in validation",
            [row and row.eval_mean_token_accuracy for row in last],
            formats.percent,
            max,
        ),
        result_row(
            "Tokens per second", [run.tokens_per_second for run in runs], formats.compact, max
        ),
        result_row("Memory, at most", [run.memory_bytes for run in runs], formats.size, min),
        result_row("Time", [elapsed(run, now()) for run in runs], formats.duration),
        result_row("Tokens learned from", [run.trained_tokens for run in runs], formats.compact),
    ]
