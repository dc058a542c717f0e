"""The messages of a chat completion -> the one image that they hold, and their texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import printable

INSTRUCTING = ("system", "developer")
USER = "user"
MEMBERS = {"message": ("role", "content", "name"), "text": ("type", "text"), "image_url": ("type", "image_url")}
DETAILS = ("auto", "low", "high", "original")
NO_CHAT = "This model describes regions of one image, and does not chat: "


@dataclass(frozen=True, slots=True)
class Text:
    """at: its JSON pointer."""

    text: str
    at: str


@dataclass(frozen=True, slots=True)
class Messages:
    """url: of the image, as it stands in the document. at: the JSON pointer of it. texts: of all messages, in order."""

    url: str
    at: str
    texts: tuple[Text, ...]


def read_messages(messages: Any) -> Messages:
    """Raises InvalidRequestError where there is anything but instructions and one user message with one image."""
    if not isinstance(messages, list) or not messages:
        raise _refused("/messages", "A list with a user message that holds an image is expected.")
    texts: list[Text] = []
    images: list[Text] = []
    users = 0
    for place, message in enumerate(messages):
        at = f"/messages/{place}"
        role = _role(message, at)
        users += role == USER
        if users > 1:
            raise _refused(at, f"{NO_CHAT}send one user message alone, without what was said before.")
        for kind, part in _parts(message.get("content"), f"{at}/content"):
            if kind == "image_url" and role != USER:
                raise _refused(part.at, "The image is a part of the user's message.")
            (texts if kind == "text" else images).append(part)
    if not images:
        detail = f'{NO_CHAT}add the image, as a part {{"type": "image_url", "image_url": {{"url": "data:..."}}}}.'
        raise _refused(f"/messages/{len(messages) - 1}/content", detail)
    if len(images) > 1:
        raise _refused(images[1].at, "One image is described per request; this is the second.")
    return Messages(images[0].text, images[0].at, tuple(texts))


def _role(message: Any, at: str) -> str:
    if not isinstance(message, dict):
        raise _refused(at, "A message is an object with 'role' and 'content'.")
    _refuse_unknown(message, "message", at)
    role = message.get("role")
    if role in (*INSTRUCTING, USER):
        return str(role)
    if role in ("assistant", "tool", "function"):
        raise _refused(f"{at}/role", f"{NO_CHAT}no message of the {role} can be gone on from.")
    raise _refused(f"{at}/role", "The role of a message is 'user', 'system' or 'developer'.")


def _parts(content: Any, at: str) -> Iterator[tuple[str, Text]]:
    """(text or image_url, it) of each part of a message."""
    if isinstance(content, str):
        yield "text", Text(content, at)
        return
    if not isinstance(content, list):
        raise _refused(at, "The content of a message is a text, or a list of parts: texts and an image.")
    for place, part in enumerate(content):
        yield _part(part, f"{at}/{place}")


def _part(part: Any, at: str) -> tuple[str, Text]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "image_url"):
        raise _refused(f"{at}/type", "A part is of the type 'text' or 'image_url'; no other is read.")
    _refuse_unknown(part, kind, at)
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise _refused(f"{at}/text", "A text is expected.")
        return kind, Text(part["text"], f"{at}/text")
    image = part.get("image_url")
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise _refused(f"{at}/image_url", 'An object is expected: {"url": "data:image/png;base64,..."}.')
    for name in image:
        if name not in ("url", "detail"):
            raise _refused(f"{at}/image_url/{printable(name)}", f"Unknown field '{printable(name)}'.")
    if image.get("detail") not in (None, *DETAILS):
        raise _refused(
            f"{at}/image_url/detail", f"'detail' is one of {', '.join(DETAILS)}, which are all the same here."
        )
    return kind, Text(image["url"], f"{at}/image_url/url")


def _refuse_unknown(members: Mapping[str, Any], kind: str, at: str) -> None:
    for name in members:
        if name not in MEMBERS[kind]:
            raise _refused(f"{at}/{printable(name)}", f"Unknown field '{printable(name)}'.")


def _refused(pointer: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError.at(pointer, detail)
