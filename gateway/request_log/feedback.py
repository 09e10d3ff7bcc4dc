"""What people say of an answer: thumbs, words, and how it should have been."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.database import Database
from gateway.request_log.masking import mask
from gateway.request_log.queries import find_request
from gateway.tables import LoggedRequest, now
from shared.errors import InvalidRequest

_RATINGS = {"up": 1, "down": -1}


class FeedbackSpec(BaseModel):
    """``rating`` null takes an earlier one back. ``correction``: the answer that it should have
    been; a dataset of requests takes it instead of the reply."""

    model_config = ConfigDict(extra="forbid")

    rating: Literal["up", "down"] | None = None
    comment: str | None = Field(None, max_length=4000)
    correction: str | None = Field(None, max_length=100_000)

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackSpec":
        if not self.model_fields_set:
            raise ValueError("give a rating (up, down or null), a comment or a correction")
        return self


def rate(
    *, database: Database, owner: str, request_id: str, spec: FeedbackSpec, masks: bool
) -> LoggedRequest:
    """Only what ``spec`` names is changed."""

    def kept(text: str | None) -> str | None:
        clean = (text or "").replace("\0", "").strip()
        return (mask(clean) if masks else clean) or None

    with database.write_unnoticed() as session:
        row = find_request(session, owner=owner, request_id=request_id)
        given = spec.model_fields_set
        if "rating" in given:
            row.feedback = _RATINGS.get(spec.rating or "")
            if row.first_rating is None and row.feedback is not None:
                row.first_rating, row.first_rated_at = row.feedback, now()
        if "comment" in given:
            row.feedback_comment = kept(spec.comment)
        if "correction" in given:
            if spec.correction is not None and row.messages is None:
                raise InvalidRequest(
                    "correction: what was asked is not in the log, so nothing can be learned "
                    "from a better answer.",
                    param="correction",
                )
            row.correction = kept(spec.correction)
        row.feedback_at = now()
        session.add(row)
    return row
