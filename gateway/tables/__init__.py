"""The tables, by subject. Every object has an owner; every time is UTC; ids are opaque."""

from gateway.tables.access import ApiKey, IdempotentRequest, LoginSession
from gateway.tables.batches import Batch, BatchAnswer, BatchFile
from gateway.tables.columns import new_id, now
from gateway.tables.data import Dataset, LibraryModel, PlacedDataset
from gateway.tables.evaluations import Evaluation, EvaluationAnswer, EvaluationExample
from gateway.tables.experiments import Experiment, ReadinessReport, RouteMigration
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
    "Batch",
    "BatchAnswer",
    "BatchFile",
    "CheckpointRow",
    "Dataset",
    "Deployment",
    "Diagram",
    "Evaluation",
    "EvaluationAnswer",
    "EvaluationExample",
    "Experiment",
    "IdempotentRequest",
    "LibraryModel",
    "LoggedRequest",
    "LoginSession",
    "Loop",
    "MetricRow",
    "PlacedDataset",
    "QueueSight",
    "ReadinessReport",
    "Route",
    "RouteMigration",
    "Run",
    "RunEventRow",
    "StreamPosition",
    "Synthesis",
    "SynthesisAnswer",
    "SynthesisRow",
    "new_id",
    "now",
]
