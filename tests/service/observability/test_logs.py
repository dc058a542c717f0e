"""Log lines: one JSON object each, or text with the fields that matter."""

import json
import logging
import sys

from dynrefer.service.observability.logs import JsonFormatter, TextFormatter


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
