"""Log lines, as text or as one JSON object each. Configured by the command, never at import."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from dynrefer.service.settings import Settings


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`time level message field=value ...`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, followed by the fields that the message does not show."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        shown = " ".join(f"{name}={fields[name]}" for name in ("duration_ms", "request_id") if name in fields)
        return f"{super().formatMessage(record)} {shown}".rstrip()


def configure(settings: Settings) -> None:
    """Send the process's log to standard error, in the format and from the level that the settings name."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.captureWarnings(True)  # what Pillow warns of in damaged metadata, as lines like all others
    # The lines of uvicorn that are not about requests, without its own handlers.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").setLevel("WARNING")
