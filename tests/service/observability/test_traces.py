"""Traces, received by a collector in the test."""

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings, SettingsError
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.conftest import await_ready, image_bytes, in_base64, one_region

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """A server that keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sent = ExportTraceServiceRequest.FromString(_plain(body, self.headers.get("content-encoding")))
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def _plain(body: bytes, encoding: str | None) -> bytes:
    return gzip.decompress(body) if encoding == "gzip" else body


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.server.shutdown()
    found.thread.join()
    found.server.server_close()


def test_stages_are_spans_of_the_request(collector: Collector) -> None:
    body = {"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": [0, 0, 8, 8]}, {"box": [0, 0, 9, 9]}]}
    with TestClient(
        create_app(Settings(otlp_endpoint=collector.address, worker_processes=0), FakePredictor())
    ) as client:
        await_ready(client)
        assert client.post("/v1/describe", json=body, headers={"traceparent": PARENT}).status_code == 200
        client.get("/livez")
    # The application's shutdown has exported what was left.
    by_name = {span.name: span for span in collector.spans}
    assert set(by_name) == {"POST /v1/describe", "decode", "views", "queue", "vision", "heads", "caption"}
    root = by_name.pop("POST /v1/describe")
    assert root.trace_id.hex() == PARENT.split("-")[1] and root.parent_span_id.hex() == PARENT.split("-")[2]
    for span in by_name.values():
        assert span.parent_span_id == root.span_id
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    assert by_name["vision"].end_time_unix_nano == by_name["heads"].start_time_unix_nano


def test_the_passes_of_a_search_are_spans_of_the_request(collector: Collector) -> None:
    settings = Settings(otlp_endpoint=collector.address, worker_processes=0)
    with TestClient(create_app(settings, FakePredictor(finding=FakeFinderSpec()))) as client:
        await_ready(client)
        body = {"image": {"base64": in_base64(image_bytes())}, "names": ["dog"], "describe": {"task": "caption"}}
        answer = client.post("/v1/detect", json=body)
        assert answer.status_code == 200 and answer.json()["regions"]
    by_name = {span.name: span for span in collector.spans}
    root = by_name.pop("POST /v1/detect")
    assert set(by_name) >= {"find", "vision", "caption"} and "decode" not in by_name
    assert all(span.parent_span_id == root.span_id for span in by_name.values())
    assert by_name["find"].start_time_unix_nano >= root.start_time_unix_nano


def test_an_unreachable_collector_delays_nothing() -> None:
    with TestClient(
        create_app(Settings(otlp_endpoint="http://127.0.0.1:9", worker_processes=0), FakePredictor())
    ) as client:
        await_ready(client)
        body = {"image": {"base64": in_base64(image_bytes())}, **one_region()}
        assert client.post("/v1/describe", json=body).status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 30


def test_traces_without_their_packages_abort_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match="otlp_endpoint needs packages"):
        create_app(Settings(otlp_endpoint="http://127.0.0.1:9"), FakePredictor())
