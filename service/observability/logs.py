"""Log lines, as text or as one JSON object each, with the id of the request that they are about.

The id travels in a context variable: coroutines and tasks inherit it, threads do not. Whoever hands a request's work to
a thread runs it in a copy of the context (`contextvars.copy_context().run`), or binds the id again in that thread.
"""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from dynrefer.service.settings import Settings

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)


@contextmanager
def bind_request_id(request_id: str | None) -> Iterator[None]:
    """Whatever is logged inside, in this context and in copies of it, carries the id; None: no id.

    What is done for several requests at once, such as a batch, binds their ids separated by commas.
    """
    token = request_id_var.set(request_id)
    try:
        yield
    finally:
        request_id_var.reset(token)


class RequestIdFilter(logging.Filter):
    """Writes the current request's id into each record, as `record.request_id`. Discards nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Called in the thread, and so in the context, that logs."""
        record.request_id = request_id_var.get()
        return True


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The request's id, where there is one, and the event's own fields (`extra={"fields": {...}}`)."""
    request_id = getattr(record, "request_id", None)
    own: dict[str, Any] = getattr(record, "fields", {})
    return own if request_id is None else {"request_id": request_id, **own}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then the fields, then the traceback as `trace`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`time level message field=value ...`, then the traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, followed by the fields that the message does not show: after its first line, if it has several."""
        fields = fields_of(record)
        shown = " ".join(f"{name}={fields[name]}" for name in ("duration_ms", "request_id") if name in fields)
        first, newline, rest = super().formatMessage(record).partition("\n")
        return f"{first} {shown}".rstrip() + (newline + rest).rstrip()


class _WithoutCancellations(logging.Filter):
    """Discards uvicorn's tracebacks of what a shutdown has cancelled on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to keep the record."""
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def configure(settings: Settings) -> None:
    """Send the process's log to standard error, in the format and from the level that the settings name."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    handler.addFilter(RequestIdFilter())
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.captureWarnings(True)  # log lines like all others
    logging.getLogger("python_multipart").setLevel("ERROR")  # below: what a client sent, line by line
    logging.getLogger("mcp").setLevel("WARNING")  # below: the steps of every message
    # What uvicorn logs apart from requests, without its own handlers.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    logging.getLogger("uvicorn.error").addFilter(_WithoutCancellations())
