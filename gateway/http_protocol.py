"""HTTP/1.1 on the wire: uvicorn's quick protocol, with a limit to what is no body."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024


class HeadTooLarge(Exception):
    """Makes the parser give up, which answers 400."""


class LimitedHead(HttpToolsProtocol):
    """The parser itself keeps heads, and lines behind a chunked body, of any length."""

    # What came since the last byte of a body, or since the last request.
    _beside = 0

    def data_received(self, data: bytes) -> None:
        self._beside += len(data)
        super().data_received(data)
        if self._beside > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_headers_complete(self) -> None:
        # All of it may have come at once, and with a body behind it.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > (
            MAX_HEAD_BYTES
        ):
            raise HeadTooLarge
        self._beside = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._beside = 0
        super().on_message_complete()
