"""What the service counts, under the names that dashboards use. Units in the names, closed label sets."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from dynrefer.model import DEVICE_STAGES

STAGES = ("decode", "find", "look", "masks", "points", "views", "queue", *DEVICE_STAGES)  # of a request, in order
TURN_STAGES = ("converse", "verify")  # of a question, behind decode and points
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
SWITCHES = ("switched", "rolled_back", "failed", "given_up")  # what became of loading another model
REPLICAS = ("answering", "silent")  # of the model, where it runs in other processes
CALLS_AGAIN = ("died", "silent", "refused")  # why a call of a replica was made again on another one
GRAPHS = ("captured", "fallen back")  # what became of a piece of work that was to be a CUDA graph
# Name in metrics -> name in `Predictor.cache_stats`.
CACHES = {
    "view": "views",
    "region": "regions",
    "text": "texts",
    "vocabulary": "vocabularies",
    "shared": "shared",
}
PIXELS = (1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8)


@dataclass(frozen=True, slots=True)
class SharedCacheCounts:
    """Of a store that processes share. read_errors, write_errors: round trips that failed. invalid: values that were
    damaged or forged. written, dropped: values. reading, writing: whether it is used, or left alone for a while."""

    read_errors: int = 0
    write_errors: int = 0
    invalid: int = 0
    written: int = 0
    dropped: int = 0
    reading: bool = False
    writing: bool = False


class Metrics:
    """One registry per application, so that two of them in a process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "dynrefer_requests", "Requests answered.", ["route", "outcome", "surface"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "dynrefer_request_duration_seconds",
            "From the request's first byte to its answer.",
            ["route", "surface"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "dynrefer_stage_duration_seconds",
            "Time of a request in one stage.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_regions = Histogram(
            "dynrefer_batch_regions",
            "Regions in a batch, or that joined one together.",
            buckets=COUNTS,
            registry=self.registry,
        )
        self.batch_views = Histogram(
            "dynrefer_batch_views", "Views of those regions.", buckets=COUNTS, registry=self.registry
        )
        self.found_regions = Histogram(
            "dynrefer_found_regions", "Regions found in an image.", buckets=COUNTS, registry=self.registry
        )
        self.reply_tokens = Counter("dynrefer_reply_tokens", "Tokens of answers to questions.", registry=self.registry)
        self.first_token_seconds = Histogram(
            "dynrefer_first_token_seconds",
            "From a question's first byte to the first part of its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.image_pixels = Histogram(
            "dynrefer_image_pixels", "Size of a decoded image.", buckets=PIXELS, registry=self.registry
        )
        self.rejected = Counter(
            "dynrefer_rejected", "Requests turned away before any work.", ["reason"], registry=self.registry
        )
        self.device_oom = Counter(
            "dynrefer_device_oom", "Batches that did not fit the device's memory.", registry=self.registry
        )
        self.batch_cap_regions = Gauge(
            "dynrefer_batch_cap_regions",
            "Most regions on the device at a time, lowered by want of memory.",
            registry=self.registry,
        )
        self.image_workers = Gauge(
            "dynrefer_image_workers", "Worker processes that decode images.", registry=self.registry
        )
        self.queued_images = Gauge(
            "dynrefer_queued_images", "Images waiting for a worker process.", registry=self.registry
        )
        self.image_worker_kills = Counter(
            "dynrefer_image_worker_kills",
            "Worker processes ended in the middle of an image, by reason: cpu and wall (the limits of an image), turn "
            "(to begin again in the long lane), cancelled (the client left, or its deadline passed), crash.",
            ["reason"],
            registry=self.registry,
        )
        for reason in ("cpu", "wall", "turn", "cancelled", "crash"):
            self.image_worker_kills.labels(reason)
        self.model_switches = Counter(
            "dynrefer_model_switches",
            "Attempts to let another model serve, by outcome: switched, rolled_back (to the one before), failed (the "
            "one before goes on), given_up (the service was stopped meanwhile).",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in SWITCHES:
            self.model_switches.labels(outcome)
        self.replicas = Gauge(
            "dynrefer_replicas",
            "Replicas of the model, by whether they answer; none where the model runs in this process.",
            ["state"],
            registry=self.registry,
        )
        self.calls_again = Counter(
            "dynrefer_replica_calls_again",
            "Calls of a replica that were made again on another one, by reason: died, silent (it did not answer), "
            "refused (it took nothing).",
            ["reason"],
            registry=self.registry,
        )
        for reason in CALLS_AGAIN:
            self.calls_again.labels(reason)
        for state in REPLICAS:
            self.replicas.labels(state)
        self.queue_regions = Gauge(
            "dynrefer_queue_regions", "Regions admitted and waiting for the device.", registry=self.registry
        )
        self.device_regions = Gauge("dynrefer_device_regions", "Regions on the device.", registry=self.registry)
        self.buffered_bytes = Gauge(
            "dynrefer_buffered_bytes", "Bodies of requests held in memory.", registry=self.registry
        )

    def watch_queue(self, waiting: Callable[[], float], running: Callable[[], float], cap: Callable[[], float]) -> None:
        """Read the regions that wait and that run, and the cap on batches, whenever the metrics are read."""
        self.queue_regions.set_function(waiting)
        self.device_regions.set_function(running)
        self.batch_cap_regions.set_function(cap)

    def watch_image_workers(self, processes: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Read how many worker processes there are, and images waiting for one, whenever the metrics are read."""
        self.image_workers.set_function(processes)
        self.queued_images.set_function(waiting)

    def watch_buffer(self, held_bytes: Callable[[], float]) -> None:
        """Read what the bodies take whenever the metrics are read."""
        self.buffered_bytes.set_function(held_bytes)

    def watch_caches(self, counts: Callable[[], Mapping[str, tuple[int, int]]]) -> None:
        """Read the caches' (hits, misses), by name, whenever the metrics are read."""
        self.registry.register(_CacheCounts(counts))

    def watch_shared_cache(self, counts: Callable[[], SharedCacheCounts]) -> None:
        """Read what the store of the shared cache counts whenever the metrics are read."""
        self.registry.register(_SharedCache(counts))

    def watch_graphs(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Read how many pieces of work are CUDA graphs whenever the metrics are read."""
        self.registry.register(_Graphs(counts))

    def watch_model(self, current: Callable[[], tuple[str, str] | None]) -> None:
        """Read the name and the revision of the model that serves whenever the metrics are read."""
        self.registry.register(_Model(current))

    def watch_replicas(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Read how many replicas there are, by state, whenever the metrics are read."""
        for state in REPLICAS:
            self.replicas.labels(state).set_function(partial(_count_of, counts, state))

    def count_call_again(self, reason: str) -> None:
        """A call of a replica is made again."""
        self.calls_again.labels(reason).inc()

    def watch_log(self, dropped: Callable[[], float]) -> None:
        """Read how many lines of the log were dropped whenever the metrics are read."""
        self.registry.register(_DroppedLines(dropped))

    def observe_batch(self, regions: int, views: int) -> None:
        """Count one batch, or what joined one."""
        self.batch_regions.observe(regions)
        self.batch_views.observe(views)

    def observe_reply(self, before: int, tokens: int, began: float) -> None:
        """Count what was added to an answer. before, tokens: of it. began: its request, in perf_counter seconds."""
        if tokens and not before:
            self.first_token_seconds.observe(time.perf_counter() - began)
        self.reply_tokens.inc(max(0, tokens - before))

    def observe_stages(self, timings_ms: Mapping[str, float]) -> None:
        """Count one request's stages."""
        for stage in (*STAGES, *TURN_STAGES):
            if stage in timings_ms:
                self.stage_seconds.labels(stage).observe(timings_ms[stage] / 1e3)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


def _count_of(counts: Callable[[], Mapping[str, int]], name: str) -> float:
    return float(counts().get(name, 0))


class _CacheCounts(Collector):
    """The counts that the model keeps itself."""

    def __init__(self, counts: Callable[[], Mapping[str, tuple[int, int]]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Hits and misses of each cache; zero while there is no model."""
        counts = self._counts()
        for name, cache in CACHES.items():
            for what, value in zip(("hits", "misses"), counts.get(cache, (0, 0)), strict=True):
                yield CounterMetricFamily(
                    f"dynrefer_{name}_cache_{what}", f"{what.title()} in the {name} cache.", value
                )


class _SharedCache(Collector):
    """The counts that the store keeps itself."""

    def __init__(self, counts: Callable[[], SharedCacheCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Hits and misses are the model's, among those of the other caches."""
        counts, name = self._counts(), "dynrefer_shared_cache"
        errors = CounterMetricFamily(f"{name}_errors", "Round trips to the store that failed.", labels=["operation"])
        used = GaugeMetricFamily(f"{name}_up", "Whether it is used: 0 while it fails.", labels=["operation"])
        for operation, failed, on in (
            ("read", counts.read_errors, counts.reading),
            ("write", counts.write_errors, counts.writing),
        ):
            errors.add_metric([operation], failed)
            used.add_metric([operation], float(on))
        yield errors
        yield used
        yield CounterMetricFamily(f"{name}_invalid", "Values that were damaged or forged.", counts.invalid)
        yield CounterMetricFamily(f"{name}_writes", "Values that were written.", counts.written)
        yield CounterMetricFamily(f"{name}_dropped", "Values that were not written.", counts.dropped)


class _Graphs(Collector):
    """The counts that the predictor keeps."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """By state; zero while there is no model, and on a device without graphs."""
        gauge = GaugeMetricFamily("dynrefer_cuda_graphs", "Pieces of work for CUDA graphs.", labels=["state"])
        for state, count in (dict.fromkeys(GRAPHS, 0) | dict(self._counts())).items():
            gauge.add_metric([state.replace(" ", "_")], count)
        yield gauge


class _Model(Collector):
    """Which model serves. Its names are an administrator's, so that there are few."""

    def __init__(self, current: Callable[[], tuple[str, str] | None]) -> None:
        self._current = current

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One series, of the value 1; none while there is no model."""
        gauge = GaugeMetricFamily("dynrefer_model_info", "The model that serves.", labels=["name", "revision"])
        if (current := self._current()) is not None:
            gauge.add_metric(current, 1.0)
        yield gauge


class _DroppedLines(Collector):
    """The count that the log's writer keeps itself."""

    def __init__(self, dropped: Callable[[], float]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Lines that nobody read in time, or that could not be written."""
        yield CounterMetricFamily("dynrefer_log_lines_dropped", "Lines of the log that were dropped.", self._dropped())


def outcome_of(status: int) -> str:
    """The closed set of outcomes that a status belongs to."""
    if status < 400:
        return "ok"
    named = {401: "unauthorized", 429: "rejected", 499: "disconnected", 503: "unavailable", 504: "deadline"}
    return named.get(status, "refused" if status < 500 else "failed")
