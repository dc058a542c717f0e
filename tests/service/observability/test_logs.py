"""Log lines: one JSON object each, or text with the fields that matter; and every line of a request carries its id."""

import asyncio
import contextlib
import contextvars
import io
import json
import logging
import struct
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence

import pytest
from PIL import Image

from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.observability import logs
from dynrefer.service.observability.logs import JsonFormatter, RequestIdFilter, TextFormatter, bind_request_id
from dynrefer.service.settings import Settings
from tests.faults import Fault, FaultyPredictor, box_of
from tests.service.conftest import ApiClient, ApiFactory, image_bytes, in_base64, one_region


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("service.access", logging.INFO, "", 0, "GET %s", ("/livez",), None)
    made.fields = fields
    return made


def test_json_is_one_line() -> None:
    made = record(request_id="req_1", duration_ms=1.5)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["level"], entry["message"], entry["request_id"]) == ("info", "GET /livez", "req_1")
    assert "two" in entry["trace"]


def test_text_shows_times_and_ids() -> None:
    line = TextFormatter().format(record(request_id="req_1", duration_ms=1.5, status=200))
    assert line.endswith("INFO GET /livez duration_ms=1.5 request_id=req_1")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the root logger's handler writes, as JSON, with the filter that `configure` installs."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RequestIdFilter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)


def entries(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_line_carries_the_id_that_is_bound_where_it_is_logged(lines: io.StringIO) -> None:
    logger = logging.getLogger("dynrefer.somewhere")
    with bind_request_id("req_1"):
        logger.error("one")
        with bind_request_id("req_2"):
            logger.error("two")
        logger.error("one again")
    logger.error("none")
    assert [entry.get("request_id") for entry in entries(lines)] == ["req_1", "req_2", "req_1", None]


def test_text_shows_the_id_too() -> None:
    made = record()
    with bind_request_id("req_1"):
        RequestIdFilter().filter(made)
    assert TextFormatter().format(made).endswith("INFO GET /livez request_id=req_1")


def test_tasks_inherit_the_id_and_threads_take_it_in_a_copied_context(lines: io.StringIO) -> None:
    logger = logging.getLogger("dynrefer.somewhere")

    async def log() -> None:
        logger.error("in a task")

    async def scene() -> None:
        with bind_request_id("req_1"):
            await asyncio.create_task(log())
            copied = threading.Thread(target=contextvars.copy_context().run, args=(logger.error, "in a thread"))
            copied.start()
            copied.join()

    asyncio.run(scene())
    assert [entry["request_id"] for entry in entries(lines)] == ["req_1", "req_1"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_configure_installs_shows_the_id(
    log_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, level = logging.getLogger(), logging.getLogger().level
    monkeypatch.setattr(root, "handlers", [])
    try:
        logs.configure(Settings.model_validate({"log_format": log_format}))
        with bind_request_id("req_1"):
            logging.getLogger("dynrefer.somewhere").error("trouble")
            warnings.warn("Corrupt EXIF data", stacklevel=1)
    finally:
        root.setLevel(level)
        logging.captureWarnings(False)
    shown = [line for line in capsys.readouterr().err.splitlines() if "trouble" in line or "UserWarning" in line]
    assert len(shown) == 2 and all("req_1" in line for line in shown)


def named(lines: io.StringIO, logger: str) -> list[dict[str, object]]:
    return [entry for entry in entries(lines) if entry["logger"] == logger]


def test_the_access_line_and_the_trace_of_an_unforeseen_error_carry_the_id(
    api: ApiClient, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(api.predictor, "prepare_each", fail)
    with contextlib.suppress(KeyError):
        api.raw(
            json.dumps({"image": {"base64": in_base64(image_bytes())}, **one_region()}).encode(), x_request_id="mine"
        )
    failed = next(entry for entry in entries(lines) if "trace" in entry)
    assert failed["request_id"] == "mine" and "secret" in str(failed["trace"])


def describe(api: ApiClient, image: bytes, box: list[float]) -> int:
    """The status of a request with the id `mine`."""
    document = {"image": {"base64": in_base64(image)}, "regions": [{"box": box}]}
    return api.raw(json.dumps(document).encode(), x_request_id="mine").status_code


def test_the_line_of_failed_regions_carries_the_id(make_api: ApiFactory, lines: io.StringIO) -> None:
    assert describe(make_api(FaultyPredictor()), image_bytes(), box_of(Fault.POISON)) == 500
    (failed,) = named(lines, "dynrefer.service.engine.results")
    assert failed["request_id"] == "mine" and failed["message"] == "1 region(s) failed"


def test_the_lines_of_the_device_thread_carry_the_id(make_api: ApiFactory, lines: io.StringIO) -> None:
    assert describe(make_api(FaultyPredictor()), image_bytes(), box_of(Fault.TOO_BIG)) == 503
    (warned,) = named(lines, "dynrefer.service.engine.device_thread")
    assert warned["request_id"] == "mine" and "no memory for a batch" in str(warned["message"])


def test_what_libraries_warn_about_an_image_is_no_line(
    make_api: ApiFactory, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = io.BytesIO()
    tags = b"".join(struct.pack(">HHII", 0x8000 + tag, 2, 1_000, tag << 8) for tag in range(500))
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 500) + tags
    Image.new("RGB", (64, 48)).save(image, "JPEG", exif=exif)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    logging.captureWarnings(True)
    try:
        assert describe(make_api(), image.getvalue(), [8, 8, 40, 40]) == 200
    finally:
        logging.captureWarnings(False)
    assert not [each for each in entries(lines) if str(each["logger"]).startswith(("py.warnings", "PIL"))]


def test_tracebacks_of_cancelled_tasks_are_discarded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, level, uvicorns = logging.getLogger(), logging.getLogger().level, logging.getLogger("uvicorn.error")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(uvicorns, "filters", [])
    try:
        logs.configure(Settings())
        for error in (asyncio.CancelledError(), KeyError("unforeseen")):
            uvicorns.error("Exception in ASGI application\n", exc_info=error)
    finally:
        root.setLevel(level)
        logging.captureWarnings(False)
    shown = capsys.readouterr().err
    assert shown.count("Exception in ASGI application") == 1 and "unforeseen" in shown


def test_a_line_about_a_batch_carries_the_ids_of_its_requests(lines: io.StringIO) -> None:
    batcher: Batcher[int, int] = Batcher(Limits(8, 8, 8, batch_wait_s=0.0), cost=lambda _: 1)
    for request_id in ("one", "two"):
        batcher.reserve(2, request_id=request_id).submit([1, 2])

    def run(kind: object, items: Sequence[int], should_stop: object) -> Sequence[int]:
        logging.getLogger("dynrefer.model").error("trouble")
        return items

    batcher.close()
    batcher.serve(run)
    assert [entry["request_id"] for entry in named(lines, "dynrefer.model")] == ["one,two"]
