"""Batches as their owners make, see and cancel them. Knows no HTTP and answers nothing."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from gateway.batches import files
from gateway.batches.states import CANCELLABLE, ENDPOINTS, WINDOW_SECONDS
from gateway.database import Database
from gateway.idempotency import Claim
from gateway.openai_api import ids
from gateway.openai_api.job_body import MetadataKey, MetadataValue
from gateway.paging import Page, paginate
from gateway.tables import Batch, now
from shared.errors import Conflict, InvalidRequest, NotFound


class OutputExpiry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=files.SHORTEST_SECONDS, le=files.LONGEST_SECONDS)]


class BatchCreate(BaseModel):
    """The body of OpenAI's `POST /v1/batches`."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(max_length=100)
    endpoint: str = Field(max_length=100)
    completion_window: Literal["24h"]
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=16)
    output_expires_after: OutputExpiry | None = None


class BatchError(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    cached_tokens: int = 0


class OutputDetails(BaseModel):
    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class BatchView(BaseModel):
    """OpenAI's `batch`; times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


def view_of(batch: Batch) -> BatchView:
    moments: dict[str, Any] = {
        name: _seconds(getattr(batch, name))
        for name in BatchView.model_fields
        if name.endswith("_at")
    }
    errors = batch.errors
    return BatchView(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=BatchErrors(data=[BatchError(**error) for error in errors]) if errors else None,
        input_file_id=ids.file_id(batch.input_file_id),
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=ids.file_id(batch.output_file_id) if batch.output_file_id else None,
        error_file_id=ids.file_id(batch.error_file_id) if batch.error_file_id else None,
        request_counts=RequestCounts(
            total=batch.total, completed=batch.completed, failed=batch.failed
        ),
        usage=BatchUsage(
            input_tokens=batch.input_tokens,
            output_tokens=batch.output_tokens,
            total_tokens=batch.input_tokens + batch.output_tokens,
        ),
        metadata=batch.labels,
        **moments,
    )


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


def check_endpoint(endpoint: str) -> None:
    if endpoint not in ENDPOINTS:
        raise InvalidRequest(f"endpoint must be one of {', '.join(ENDPOINTS)}.", param="endpoint")


def create_batch(
    *,
    database: Database,
    owner: str,
    body: BatchCreate,
    claim: Claim | None = None,
    key_id: str | None = None,
) -> Batch:
    """A batch that waits to be looked at, made with that key. Raises `InvalidRequest` with the
    field at fault."""
    check_endpoint(body.endpoint)
    made = now()
    with database.write() as session:
        batch = Batch(
            owner=owner,
            key_id=key_id,
            endpoint=body.endpoint,
            input_file_id=files.input_file(session, owner, body.input_file_id).id,
            completion_window=body.completion_window,
            labels=body.metadata,
            output_seconds=expiry.seconds if (expiry := body.output_expires_after) else None,
            created_at=made,
            expires_at=made + timedelta(seconds=WINDOW_SECONDS),
        )
        session.add(batch)
        if claim is not None:
            session.flush()
            claim.attach(session, batch.id)
    return batch


def get_batch(*, database: Database, owner: str, batch_id: str) -> Batch:
    with database.read() as session:
        return _get(session, owner, batch_id)


def _get(session: Session, owner: str, batch_id: str, *, for_update: bool = False) -> Batch:
    batch = session.get(Batch, batch_id, with_for_update=for_update)
    if batch is None or batch.owner != owner:
        raise NotFound(f"There is no batch {batch_id[:80]!r}.", param="batch_id")
    return batch


def list_batches(*, database: Database, owner: str, after: str | None, limit: int) -> Page[Batch]:
    """Newest first."""
    query = select(Batch).where(col(Batch.owner) == owner)
    with database.read() as session:
        return paginate(
            session=session, query=query, table=Batch, key=Batch.id, after=after, limit=limit
        )


def cancel_batch(*, database: Database, owner: str, batch_id: str) -> Batch:
    """Ask for its end: what is being answered is still written down, nothing else is asked."""
    with database.write() as session:
        batch = _get(session, owner, batch_id, for_update=True)
        if batch.status == "cancelling":
            return batch
        if batch.status not in CANCELLABLE:
            raise Conflict(
                f"A batch that is {batch.status} cannot be cancelled.", code="batch_has_ended"
            )
        batch.status, batch.cancelling_at = "cancelling", now()
        session.add(batch)
    return batch
