"""The named errors of GenPlat and the one JSON shape they take; knows no web framework."""

from collections.abc import Sequence
from typing import Any


class GenPlatError(Exception):
    """An error with a sentence for its reader.

    ``status`` is the HTTP status it turns into, ``code`` the machine-readable name,
    ``param`` the field at fault, ``details`` places in a file as ``{line, column, message}``.
    """

    status = 500
    code = "internal_error"
    type = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: Sequence[dict[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.details = list(details)
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The wire shape: OpenAI's four keys, and ``details`` where a file is at fault."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}


class InvalidRequest(GenPlatError):
    status, code, type = 400, "invalid_request", "invalid_request_error"


class InvalidData(GenPlatError):
    """Content that was understood and found wrong: a dataset, a spec, a diagram source."""

    status, code, type = 422, "invalid_data", "invalid_request_error"


class Unauthorized(GenPlatError):
    status, code, type = 401, "invalid_api_key", "authentication_error"


class Forbidden(GenPlatError):
    status, code, type = 403, "forbidden", "permission_error"


class NotFound(GenPlatError):
    status, code, type = 404, "not_found", "invalid_request_error"


class Conflict(GenPlatError):
    status, code, type = 409, "conflict", "invalid_request_error"


class TooLarge(GenPlatError):
    status, code, type = 413, "too_large", "invalid_request_error"


class UnsupportedMedia(GenPlatError):
    status, code, type = 415, "unsupported_media_type", "invalid_request_error"


class TooManyRequests(GenPlatError):
    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"


class UpstreamFailed(GenPlatError):
    """A service behind this one answered with an error or broke off."""

    status, code, type = 502, "upstream_failed", "server_error"


class Unavailable(GenPlatError):
    """A service is down or still starting; trying again later may help."""

    status, code, type = 503, "unavailable", "server_error"


class TimedOut(GenPlatError):
    status, code, type = 504, "timeout", "server_error"


class StorageFull(GenPlatError):
    status, code, type = 507, "disk_full", "server_error"
