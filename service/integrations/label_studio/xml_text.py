"""XML from strangers -> elements, safely: without a document type there are no entities, neither many nor external.

The standard library's parser (expat) is told to stop at a DOCTYPE, which is all that defusedxml would do here; size,
depth and number of elements are bounded besides.
"""

from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

MAX_CHARS = 262_144
MAX_ELEMENTS = 20_000
MAX_DEPTH = 64


class XmlError(ValueError):
    """Text that is not XML of this kind; its message says, as a clause, what is wrong."""


@dataclass(slots=True)
class Element:
    """An element with its attributes; the text between elements is left out."""

    tag: str
    attributes: dict[str, str]
    children: "list[Element]" = field(default_factory=list)


def read_xml(text: str) -> Element:
    """The root element. Raises XmlError."""
    if len(text) > MAX_CHARS:
        raise XmlError(f"has {len(text)} characters; at most {MAX_CHARS} are accepted")
    root = Element("", {})
    open_elements, count = [root], 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS or len(open_elements) > MAX_DEPTH:
            raise XmlError(f"has more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} in each other")
        element = Element(tag, attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(tag: str) -> None:
        open_elements.pop()

    def doctype(*given: Any) -> NoReturn:
        raise XmlError("has a DOCTYPE, which is not accepted")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise XmlError(f"is not XML: line {error.lineno}: {expat.ErrorString(error.code)}") from None
    return root.children[0]
