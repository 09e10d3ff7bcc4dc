"""A run's metrics as the points of its loss curve. Knows no page and no database."""

import json
from collections.abc import Sequence
from typing import Protocol

MAX_POINTS = 600


class Metric(Protocol):
    """The part of a metric row that is drawn."""

    step: int
    loss: float | None
    eval_loss: float | None


def loss_points(metrics: Sequence[Metric], *, limit: int = MAX_POINTS) -> str:
    """JSON for the chart: three lists of one length, with null where nothing was measured.

    Long runs are thinned out to about ``limit`` steps; evaluations and the last step stay.
    """
    stride = -(-len(metrics) // limit) or 1
    kept = [
        metric
        for index, metric in enumerate(metrics)
        if index % stride == 0 or index == len(metrics) - 1 or metric.eval_loss is not None
    ]
    return json.dumps(
        {
            "step": [metric.step for metric in kept],
            "loss": [_rounded(metric.loss) for metric in kept],
            "eval": [_rounded(metric.eval_loss) for metric in kept],
        },
        separators=(",", ":"),
    )


def _rounded(value: float | None) -> float | None:
    # JSON has no NaN; a run that diverged has gaps in its curve.
    return None if value is None or value - value != 0 else float(f"{value:.5g}")
