"""Pictures keep what draws, and lose what runs, loads or tells."""

import struct
import zlib

import pytest

from inference_service.plantuml.sanitizing import (
    PNG_SIGNATURE,
    UnsafePicture,
    clean_png,
    clean_svg,
)

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'


def cleaned(inside: str) -> str:
    return clean_svg(f"{HEAD}{inside}</svg>")


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<g><foreignObject><p>alert</p></foreignObject></g>",
        '<g onload="alert(1)"/>',
        '<g ONCLICK="alert(1)"/>',
        '<a href="javascript:alert(1)"><text>t</text></a>',
        '<a xlink:href="data:text/html,alert"><text>t</text></a>',
        '<a xlink:href=" javascript:alert(1)"><text>t</text></a>',
        '<image xlink:href="file:///etc/alert"/>',
        '<image xlink:href="https://alert.example/x.png"/>',
        '<image xlink:href="data:image/svg+xml;base64,alert"/>',
        '<rect style="fill:url(https://alert.example)"/>',
        '<rect fill="url(//alert)"/>',
        "<style>@import url(alert)</style>",
        "<!-- alert --><?plantuml-src alert?><g/>",
        '<x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>',
        '<set attributeName="href" to="javascript:alert(1)"/>',
        '<g xml:base="https://alert.example/"/>',
    ],
)
def test_what_could_run_load_or_tell_is_gone(inside: str) -> None:
    assert "alert" not in cleaned(inside)


@pytest.mark.parametrize(
    "inside",
    [
        '<a href="https://example.com" target="_top"><text x="1">t</text></a>',
        '<a xlink:href="#part"><text>t</text></a>',
        '<image xlink:href="data:image/png;base64,iVBORw0=" width="1" />',
        '<rect fill="url(#gradient)" style="stroke:#181818;" />',
        "<text>&lt;script&gt; é &amp;</text>",
    ],
)
def test_what_draws_stays_as_it_was(inside: str) -> None:
    assert inside in cleaned(inside)


@pytest.mark.parametrize(
    "text",
    [
        "not xml",
        "<html/>",
        "<svg/>",
        f'<!DOCTYPE svg [<!ENTITY x "y">]>{HEAD}<text>&x;</text></svg>',
        f"{HEAD}<g></svg>",
    ],
)
def test_what_is_no_plain_svg_is_refused(text: str) -> None:
    with pytest.raises(UnsafePicture):
        clean_svg(text)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_png_keeps_its_pixels_alone() -> None:
    header, pixels, end = chunk(b"IHDR", b"h" * 13), chunk(b"IDAT", b"pixels"), chunk(b"IEND", b"")
    texts = chunk(b"tEXt", b"secret") + chunk(b"zTXt", b"secret") + chunk(b"iTXt", b"secret")
    dirty = PNG_SIGNATURE + header + texts + pixels + chunk(b"eXIf", b"x") + end + b"behind"
    assert clean_png(dirty) == PNG_SIGNATURE + header + pixels + end


@pytest.mark.parametrize("cut", [0, 5, 20, 40])
def test_a_png_that_is_cut_off_is_refused(cut: int) -> None:
    whole = PNG_SIGNATURE + chunk(b"IHDR", b"h" * 13) + chunk(b"IDAT", b"p" * 50)
    with pytest.raises(UnsafePicture):
        clean_png(whole[:cut])
