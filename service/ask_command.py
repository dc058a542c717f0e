"""`dynrefer ask`: questions about an image and its regions, answered by a model in this process or by a service."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model.errors import QueryError
from dynrefer.service.command_files import fail, read_image, refuse_unwritable, save_image
from dynrefer.service.command_options import ImageFile, Overwrite, Segmenter, SomeDevice, SomeModel
from dynrefer.service.region_options import read_named_regions
from dynrefer.service.remote_commands import Key, Server, Timeout, connected, read_bytes, refuse_mixed_options

if TYPE_CHECKING:
    from dynrefer.model import Message, Reply

# Messages of a conversation -> the answer to the last one. The second argument is called with its text as it comes.
Asking = Callable[[Sequence["Message"], Callable[[str], None]], "Reply"]


def ask_command(
    image: ImageFile,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION", help="What to ask. A region is referred to by its name: 'What is <region:a>?'"
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            help="A region, x1,y1,x2,y2 in pixels of the upright image; repeatable. Regions are named a, b, c, ..., "
            "boxes before points; dog=x1,y1,x2,y2 gives a name. The question is not about a region that it does not "
            "refer to.",
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            help="x,y of a point on a region's object; repeatable. Several points of one object have one name: "
            "dog=x,y, and dog=x,y,0 beside it.",
        ),
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", help="An answer that is allowed; repeatable, at least two. The best is chosen."),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Read further questions from standard input, one a line, until it ends.")
    ] = False,
    ground: Annotated[bool, typer.Option(help="Give boxes of the objects that the answer names.")] = True,
    verify: Annotated[bool, typer.Option(help="Let the region model look at these boxes.")] = True,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of an answer, at most. [default: 64]")] = None,
    server: Server = None,
    key: Key = None,
    timeout: Timeout = None,
    model: SomeModel = None,
    converser: Annotated[
        str | None,
        typer.Option(help="What answers: embedded, or the directory of a converser. [default: embedded]"),
    ] = None,
    segmenter: Segmenter = None,
    device: SomeDevice = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, as in the service's responses; with --chat one line an answer.")
    ] = False,
    draw: Annotated[
        Path | None, typer.Option(help="Write the image with the boxes of the (last) answer to this file.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Ask a question about an image and its regions; the answer says where the objects are that it names."""
    from dynrefer.model import asked_messages

    if question is None and not chat:
        fail('ask needs a question, such as "What is <region:a>?", or --chat, which reads questions line by line.')
    refuse_mixed_options(
        server,
        {"--model": model, "--converser": converser, "--segmenter": segmenter, "--device": device},
        {"--timeout": timeout},
    )
    options: dict[str, Any] = {"ground": ground, "answers": tuple(answer or ()), "verify": verify}
    options |= {} if max_tokens is None else {"max_tokens": max_tokens}
    regions = read_named_regions(box or [], point or [])
    # What is wrong with a question is said before a model is loaded.
    asked_messages(
        "?" if question is None else question, tuple(regions), answers=options["answers"], max_tokens=max_tokens or 1
    )
    pixels = read_image(image) if server is None or draw else None
    if draw:
        refuse_unwritable(draw, image, model or "embedded", overwrite)
    loaded = {"device": device or "auto", "segmenter": segmenter or "embedded", "converser": converser or "embedded"}
    with (
        _by_model(pixels, model or "embedded", loaded, regions, options)
        if server is None
        else _by_service(server, key, timeout, read_bytes(image), regions, options)
    ) as ask:
        refused = _converse(ask, question, chat=chat, as_json=as_json, take=lambda reply: _draw(reply, pixels, draw))
    if refused:
        raise SystemExit(2)


@contextmanager
def _by_model(
    pixels: Any, model: str, loaded: dict[str, Any], regions: dict[str, Any], options: dict[str, Any]
) -> Iterator[Asking]:
    from dynrefer.model import DynRefer

    predictor = DynRefer.load(model, **loaded)

    def ask(messages: Sequence["Message"], say: Callable[[str], None]) -> "Reply":
        reply = predictor.ask(pixels, messages, regions, **options)
        say(reply.content)
        return reply

    yield ask


@contextmanager
def _by_service(
    server: str, key: str | None, timeout: float | None, image: bytes, regions: dict[str, Any], options: dict[str, Any]
) -> Iterator[Asking]:
    with connected(server, key, timeout) as client:

        def ask(messages: Sequence["Message"], say: Callable[[str], None]) -> "Reply":
            with client.ask_stream(image, messages, regions, **options) as stream:
                for piece in stream:
                    say(piece)
            return stream.reply

        yield ask


def _converse(ask: Asking, question: str | None, *, chat: bool, as_json: bool, take: Callable[["Reply"], None]) -> bool:
    """Ask, print the answers, and give them to `take`. Whether a question of a chat was refused: the others go on."""
    from dynrefer.model import Message, Role

    messages, refused = list[Message](), False
    for text in _questions(question, chat):
        try:
            asked, reply = _answered(ask, [*messages, Message(Role.USER, text)], _ignore if as_json else _say)
        except QueryError as error:
            if not chat:
                raise
            print(f"dynrefer: {error}", file=sys.stderr)
            refused = True
            continue
        messages = [*asked, Message(Role.ASSISTANT, reply.content)]
        if as_json:
            print(json.dumps(_as_answer(reply), indent=None if chat else 2, ensure_ascii=False), flush=True)
        else:
            print("\n".join(["", *_lines(reply)]), flush=True)
        take(reply)
    return refused


def _answered(
    ask: Asking, messages: Sequence["Message"], say: Callable[[str], None]
) -> tuple[Sequence["Message"], "Reply"]:
    """The answer, and the messages that it was given to: half of the turns before are left out for as long as all are
    too many for whoever answers."""
    while True:
        try:
            return messages, ask(messages, say)
        except QueryError as error:
            if error.field != "messages" or len(messages) == 1:  # "messages/2/content" is one that is at fault
                raise
        messages = messages[(len(messages) // 4 + 1) * 2 :]


def _questions(first: str | None, chat: bool) -> Iterator[str]:
    if first is not None:
        yield first
    if not chat:
        return
    if sys.stdin is None:
        fail("--chat reads questions from standard input, which is closed.")
    waits = sys.stdin.isatty()
    while True:
        if waits:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            fail("standard input is no text in UTF-8.")
        if not line:
            return
        if line.strip():
            yield line.strip()


def _say(piece: str) -> None:
    print(piece, end="", flush=True)


def _ignore(piece: str) -> None:
    """An answer as JSON is printed as a whole."""


def _lines(reply: "Reply") -> list[str]:
    """What an answer says beside its text: the choices, and where the objects are that it names."""
    lines = [f"{each.probability:.2f}  {each.answer}" for each in reply.answers]
    for each in reply.grounding:
        box = ", ".join(f"{value:g}" for value in each.box)
        parts = [reply.content[slice(*each.span)], f"[{box}]"]
        parts += [] if each.probability is None else [f"{each.probability:.2f}"]
        parts += [] if each.verified is None else ["verified" if each.verified else "not verified"]
        parts += [] if each.region is None else [f"<region:{each.region}>"]
        lines.append("  ".join(parts))
    return lines


def _as_answer(reply: "Reply") -> dict[str, Any]:
    """What the service answers, but for what belongs to a request."""
    from dynrefer.service.client import ServedReply

    document = reply.document if isinstance(reply, ServedReply) else _as_document(reply)
    return {name: document[name] for name in ("message", "finish_reason", "usage")}


def _as_document(reply: "Reply") -> Mapping[str, Any]:
    from dynrefer.model import ImageInfo
    from dynrefer.service.api.conversations import converse_answer
    from dynrefer.service.engine.conversing import ConverseResult

    result = ConverseResult(ImageInfo(0, 0), reply, 0, {})  # boxes of the upright image stay as they are
    return converse_answer("", "", "upright", result, 0.0).model_dump(exclude_none=True)


def _draw(reply: "Reply", pixels: Any, draw: Path | None) -> None:
    if draw is None:
        return
    from PIL import Image

    from dynrefer.model.drawing import annotations_of_reply, draw_regions

    save_image(draw_regions(Image.fromarray(pixels), annotations_of_reply(reply)), draw)
