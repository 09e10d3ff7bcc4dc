"""A remote PlantUML server, played by a small real one."""

import threading
import zlib
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from inference_service.plantuml.renderer import Renderer
from inference_service.plantuml.server import ServerPictures
from shared.errors import UpstreamFailed
from tests.inference_service.plantuml.test_cache import PNG, SVG

pytestmark = pytest.mark.anyio


def decode(text: str) -> str:
    ordinary = bytes.maketrans(
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    )
    return zlib.decompress(b64decode(text.encode().translate(ordinary)), -15).decode()


class PlantUMLServer(BaseHTTPRequestHandler):
    """`GET /{svg,png}/ENCODED`, with errors as PlantUML's own server tells them."""

    def do_GET(self) -> None:
        _, picture, encoded = self.path.split("/")
        source = decode(encoded)
        if "broken" in source:
            self.send_response(500)
        elif "wrong" in source:
            self.send_response(400)
            self.send_header("X-PlantUML-Diagram-Error", "Syntax Error?")
            self.send_header("X-PlantUML-Diagram-Error-Line", "1")
        else:
            self.send_response(200)
        body = SVG if picture == "svg" else PNG
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), PlantUMLServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_server_draws_and_tells_the_line_of_a_mistake(url: str) -> None:
    renderer = Renderer(ServerPictures(url, timeout=5))
    await renderer.start()
    good = await renderer.render("@startuml\nA -> B\n@enduml")
    assert (good.rendered, good.svg) == (True, '<svg xmlns="http://www.w3.org/2000/svg" />')
    bad = await renderer.render("@startuml\nwrong\n@enduml")
    assert bad.error is not None
    assert (bad.error.line, bad.error.message) == (2, "Syntax Error?")
    with pytest.raises(UpstreamFailed, match="500"):
        await renderer.render("@startuml\nbroken\n@enduml")


async def test_a_server_that_is_not_there_is_an_upstream_failure() -> None:
    renderer = Renderer(ServerPictures("http://127.0.0.1:9", timeout=2))
    await renderer.start()
    with pytest.raises(UpstreamFailed):
        await renderer.render("@startuml\nA -> B\n@enduml")
