"""Times as callers send them. Pure."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def _in_utc(moment: datetime) -> datetime:
    """The first and the last hours that a calendar has do not exist everywhere."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("there is no such time in UTC") from error


# With its zone.
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
