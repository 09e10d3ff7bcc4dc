"""The tables, by subject. Every object has an owner; every time is UTC; ids are opaque."""

from gateway.tables.access import ApiKey, IdempotentRequest, LoginSession
from gateway.tables.columns import new_id, now
from gateway.tables.data import Dataset, LibraryModel, PlacedDataset
from gateway.tables.evaluations import Evaluation, EvaluationAnswer, EvaluationExample
from gateway.tables.loops import Loop
from gateway.tables.requests import LoggedRequest
from gateway.tables.runs import (
    CheckpointRow,
    MetricRow,
    QueueSight,
    Run,
    RunEventRow,
    StreamPosition,
)
from gateway.tables.serving import Deployment, Diagram, Route
from gateway.tables.synthesis import Synthesis, SynthesisAnswer, SynthesisRow

__all__ = [
    "ApiKey",
    "CheckpointRow",
    "Dataset",
    "Deployment",
    "Diagram",
    "Evaluation",
    "EvaluationAnswer",
    "EvaluationExample",
    "IdempotentRequest",
    "LibraryModel",
    "LoggedRequest",
    "LoginSession",
    "Loop",
    "MetricRow",
    "PlacedDataset",
    "QueueSight",
    "Route",
    "Run",
    "RunEventRow",
    "StreamPosition",
    "Synthesis",
    "SynthesisAnswer",
    "SynthesisRow",
    "new_id",
    "now",
]
