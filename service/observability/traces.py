"""Traces, if an OTLP endpoint is configured: one span per request by OpenTelemetry's own instrumentation, with a span
below it for each stage."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from starlette.middleware import Middleware

from dynrefer.model import DEVICE_STAGES, RegionDescription
from dynrefer.service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from dynrefer.service.engine.conversing import ConverseResult
    from dynrefer.service.engine.detecting import DetectResult
    from dynrefer.service.engine.results import DescribeResult

# Time limit of an export, and of the last one when the process ends.
EXPORT_S = 2
UNTRACED = "livez,readyz,health,metrics"


@dataclass(frozen=True, slots=True)
class Traces:
    """middleware: empty if traces are off. close: exports what is left, within EXPORT_S."""

    tracer: trace.Tracer
    middleware: tuple[Middleware, ...] = ()
    close: Callable[[], None] = lambda: None


def configured_traces(settings: Settings) -> Traces:
    """Traces as the settings want them. Raises SettingsError if the packages for them are not installed."""
    if not settings.otlp_endpoint:
        return Traces(trace.NoOpTracer())
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        needed = "otlp_endpoint needs packages that are not installed: pip install 'dynrefer[trace]'."
        raise SettingsError(needed) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "dynrefer"}), shutdown_on_exit=False)
    endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)))
    options: dict[str, Any] = {
        "tracer_provider": provider,
        "excluded_urls": UNTRACED,
        "exclude_spans": ["receive", "send"],
    }

    def close() -> None:
        # In a thread of its own: a collector that does not respond must not delay the end of the process.
        last = threading.Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(EXPORT_S)

    return Traces(provider.get_tracer("dynrefer"), (Middleware(OpenTelemetryMiddleware, **options),), close)


def record_stages(tracer: trace.Tracer, described: "DescribeResult", parent: Context | None) -> None:
    """Spans for decode, views, and for every batch queue, vision, heads and caption, under the parent's span."""
    span = partial(_span, tracer, parent)
    at = span("decode", described.began_ns, described.timings_ms["decode"])
    span("views", at, described.timings_ms["views"])
    batches: dict[int, tuple[int, RegionDescription]] = {}
    for index, (batch, region) in enumerate(zip(described.batches, described.regions, strict=True)):
        if not isinstance(region, Exception):
            batches.setdefault(batch, (index, region))
    for index, region in batches.values():
        at = span("queue", described.submitted_ns, described.queue_ms[index])
        for stage in DEVICE_STAGES:
            if stage in region.timings_ms:
                at = span(stage, at, region.timings_ms[stage])


def record_passes(tracer: trace.Tracer, made: "DetectResult | ConverseResult", parent: Context | None) -> None:
    """Spans for the passes of a request that finds or asks, one after the other, and for the stages of what was
    described."""
    at = made.began_ns
    for stage, spent_ms in made.timings_ms.items():
        if stage != "decode":  # a part of another pass
            at = _span(tracer, parent, stage, at, spent_ms)


def _span(tracer: trace.Tracer, parent: Context | None, name: str, start_ns: int, spent_ms: float) -> int:
    """A span that has already ended. Returns its end, in nanoseconds since 1970."""
    end_ns = start_ns + int(spent_ms * 1e6)
    tracer.start_span(name, context=parent, start_time=start_ns).end(end_ns)
    return end_ns
