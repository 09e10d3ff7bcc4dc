"""Takes out of a rendered picture what could run, load or tell something; knows no renderer."""

import re
import struct
from collections.abc import Iterator
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_DRAWING = """svg g a defs title desc path rect circle ellipse line polyline polygon text tspan
image use symbol linearGradient radialGradient stop pattern clipPath mask marker filter
feGaussianBlur feOffset feBlend feColorMatrix feFlood feComposite feMerge feMergeNode"""
_ELEMENTS = frozenset(re.split(r"\s+", _DRAWING))
_LINKS = re.compile(r"(https?://|#)", re.IGNORECASE)
_PICTURES = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=\s]*")
_OUTSIDE = re.compile(r"url\(\s*(?!['\"]?#)|javascript:|expression\(|@import", re.IGNORECASE)
_PNG_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"pHYs", b"IDAT", b"IEND"))

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


class UnsafePicture(ValueError):
    """The picture is not what a PlantUML renderer writes."""


def clean_svg(svg: str) -> str:
    """The SVG with drawing elements alone. Comments and processing instructions, among them the
    embedded source, are gone; links are http(s) ones or point inside the picture."""
    if "<!DOCTYPE" in svg or "<!ENTITY" in svg:
        raise UnsafePicture("an SVG with a document type")
    try:
        # Entities cannot be defined without a document type, so there is nothing to blow up.
        root = ElementTree.fromstring(svg)  # noqa: S314
    except ElementTree.ParseError as error:
        raise UnsafePicture("not XML") from error
    if root.tag != f"{{{SVG}}}svg":
        raise UnsafePicture("not an SVG")
    _clean(root)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element) -> None:
    for child in list(element):
        namespace, _, name = str(child.tag).rpartition("}")
        if namespace != "{" + SVG or name not in _ELEMENTS:
            element.remove(child)
        else:
            _clean(child)
    for attribute in list(element.attrib):
        if not _is_harmless(element, attribute):
            del element.attrib[attribute]


def _is_harmless(element: ElementTree.Element, attribute: str) -> bool:
    value = element.attrib[attribute]
    namespace, _, name = attribute.rpartition("}")
    if name.lower().startswith("on") or namespace not in ("", "{" + XLINK):
        return False
    if name == "href":
        is_picture = element.tag == f"{{{SVG}}}image"
        return bool(_PICTURES.fullmatch(value) if is_picture else _LINKS.match(value))
    return not _OUTSIDE.search(value)


def clean_png(png: bytes) -> bytes:
    """The PNG's pixels alone: no texts, which hold the source, and nothing behind the end."""
    kept = [raw for kind, raw in _png_chunks(png) if kind in _PNG_CHUNKS]
    return PNG_SIGNATURE + b"".join(kept)


def _png_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not png.startswith(PNG_SIGNATURE):
        raise UnsafePicture("not a PNG")
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind = png[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(png):
            break
        yield kind, png[position:end]
        if kind == b"IEND":
            return
        position = end
    raise UnsafePicture("a PNG without an end")
