"""Region representations in Redis: the store that `shared_cache` in the settings names. No redis at import, no torch.

The device's thread never touches a socket. It hands a look-up to the reader's thread and waits for `timeout_s` at most,
name resolution, connecting and TLS included; what it computes is written by another thread, from a queue of bounded
bytes that drops what it cannot take. Connections are made by probes while nobody waits. Each of the two has a breaker
(`circuit_breaker.py`), so that a store which is dead, hangs or is slow is asked three times and then left alone.

A value is read by GETRANGE, all of a batch in one round trip, so that one which is too long is not transferred. Each is
sealed (`sealing.py`) and expires after `ttl_s`.
"""

import itertools
import logging
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dynrefer.service.observability.metrics import SharedCacheCounts
from dynrefer.service.scale.circuit_breaker import CircuitBreaker
from dynrefer.service.scale.sealing import TAG_BYTES, Seal, read_secret
from dynrefer.service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

SOCKET_S = 1.0  # for a connection or an answer, where nobody waits: of probes, and of what is written
VALUES_AT_A_TIME = 32  # that are written in one round trip
INVALID_EVERY_S = 600.0  # how often the log says that values are not valid
ERROR_CODE = re.compile(r"[A-Z]{2,20}\b")
WRONG_TYPE = b"\0"  # no sealed value is so short


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """timeout_s: how long a look-up may take. ttl_s: after which a value is gone. queue_bytes: most that wait to be
    written."""

    timeout_s: float = 0.02
    ttl_s: int = 86_400
    queue_bytes: int = 67_108_864


@dataclass(eq=False, slots=True)
class _Lookup:
    """keys: none for a probe. found: the answer, once `done`. given_up: nobody waits for it any more."""

    keys: Sequence[bytes] = ()
    size: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    found: Sequence[bytes | None] = ()
    given_up: bool = False


class RedisStore:
    """A `dynrefer.model.shared_cache.SharedStore`. Any thread; one of a process serves all its models.

    client: makes a client for each of the two threads, which start when they have work.
    """

    def __init__(self, client: Callable[[], "Redis"], seal: Seal, limits: StoreLimits) -> None:
        self._seal, self._limits = seal, limits
        self._reader, self._writer = client(), client()
        self._reads, self._writes = CircuitBreaker(), CircuitBreaker()
        self._lookups: queue.SimpleQueue[_Lookup | None] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Mapping[bytes, bytes] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._numbers = dict.fromkeys(("read_errors", "write_errors", "invalid", "written", "dropped"), 0)
        self._told = {"reads": False, "writes": False}  # whether the log says that it is not used
        self._told_invalid_at = float("-inf")
        self._advised = False
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def counts(self) -> SharedCacheCounts:
        """As of now."""
        with self._lock:
            return SharedCacheCounts(**self._numbers, reading=self._reads.closed, writing=self._writes.closed)

    def get_many(self, keys: Sequence[bytes], size: int) -> Sequence[bytes | None]:
        """See `SharedStore`."""
        nothing = [None] * len(keys)
        if not self._reads.closed:
            if self._reads.may_probe():
                self._begin()
                self._lookups.put(_Lookup())
            return nothing
        lookup = _Lookup(keys, size, found=nothing)
        self._lookups.put(lookup)
        if lookup.done.wait(self._limits.timeout_s):
            return lookup.found
        lookup.given_up = True
        self._read_failed(f"no answer within {self._limits.timeout_s * 1e3:g} ms.")
        self._reader.connection_pool.disconnect()  # wakes the reader, whatever it waits for
        return nothing

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """See `SharedStore`."""
        size = _bytes_of(values)
        with self._lock:
            full = self._closed or self._queued_bytes + size > self._limits.queue_bytes
            if full:
                self._numbers["dropped"] += len(values)
            else:
                self._queued_bytes += size
        if not full:
            self._begin()
            self._waiting.put(values)

    def close(self) -> None:
        """Let go of connections and threads; what is not written by then is not written."""
        with self._lock:
            self._closed = True
        self._lookups.put(None)
        self._waiting.put(None)
        for client in (self._reader, self._writer):
            client.connection_pool.disconnect()

    def _begin(self) -> None:
        with self._lock:
            if self._threads or self._closed:
                return
            self._threads = [
                threading.Thread(target=work, name=f"shared cache, {name}", daemon=True)
                for name, work in (("reads", self._read), ("writes", self._write))
            ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        """The reader's whole life."""
        while (lookup := self._lookups.get()) is not None:
            if lookup.given_up:
                continue
            try:
                if lookup.keys:
                    lookup.found = self._look_up(lookup)
                else:
                    self._reader.ping()
                    self._advise()
            except Exception as error:  # of whatever answers there: the library raises more than its own
                self._reader.connection_pool.disconnect()
                if not lookup.given_up:
                    self._read_failed(_reason(error))
            else:
                if not lookup.given_up and self._reads.succeeded():
                    self._again("reads")
            lookup.done.set()

    def _look_up(self, lookup: _Lookup) -> list[bytes | None]:
        keys = [key + self._seal.name for key in lookup.keys]
        longest = TAG_BYTES + lookup.size
        pipeline = self._reader.pipeline(transaction=False)
        for key in keys:
            pipeline.getrange(key, 0, longest)  # a byte more than it may have
        return [self._opened(key, found, longest) for key, found in zip(keys, _answers(pipeline), strict=True)]

    def _opened(self, key: bytes, sealed: bytes, longest: int) -> bytes | None:
        if not sealed:
            return None
        value = self._seal.opened(key, sealed) if len(sealed) <= longest else None
        if value is None:
            self._count("invalid")
            if time.monotonic() - self._told_invalid_at >= INVALID_EVERY_S:
                self._told_invalid_at = time.monotonic()
                logger.warning("the shared cache holds values that are damaged or forged; they are not used")
        return value

    def _write(self) -> None:
        """The writer's whole life."""
        while (values := self._waiting.get()) is not None:
            written = 0
            # What cannot be read is not worth writing; and the reader's line in the log is enough.
            if self._reads.closed and (self._writes.closed or self._writes.may_probe()):
                try:
                    for some in _parts(values):
                        self._put(some)
                        written += len(some)
                    if self._writes.succeeded():
                        self._again("writes")
                except Exception as error:  # as above
                    self._write_failed(error)
            with self._lock:
                self._numbers["written"] += written
                self._numbers["dropped"] += len(values) - written
                self._queued_bytes -= _bytes_of(values)

    def _put(self, values: Mapping[bytes, bytes]) -> None:
        pipeline = self._writer.pipeline(transaction=False)
        for name, value in values.items():
            key = name + self._seal.name
            pipeline.set(key, self._seal.closed(key, value), ex=self._limits.ttl_s)
        _answers(pipeline)

    def _read_failed(self, reason: str) -> None:
        """One line of the log when the store is given up, and none while it stays so."""
        self._count("read_errors")
        if self._reads.failed() and not self._told["reads"]:
            self._told["reads"] = True
            logger.warning("the shared cache is not used, and tried again now and then: %s", reason)
        else:
            logger.debug("the shared cache failed: %s", reason)

    def _write_failed(self, error: Exception) -> None:
        self._count("write_errors")
        self._writer.connection_pool.disconnect()
        if self._writes.failed() and not self._told["writes"] and _is_answer(error):
            self._told["writes"] = True
            logger.warning("the shared cache takes no values, and is tried again now and then: %s", _reason(error))
        else:
            logger.debug("the shared cache took no values: %s", _reason(error))

    def _again(self, what: str) -> None:
        if self._told[what]:
            self._told[what] = False
            logger.info("the shared cache %s again", "answers" if what == "reads" else "takes values")

    def _count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self._numbers[what] += number

    def _advise(self) -> None:
        """Say once where the store has no bound of its own; a user that may not ask is told nothing."""
        if self._advised:
            return
        self._advised = True
        with suppress(Exception):
            memory = self._reader.info("memory")
            if not memory["maxmemory"] or memory["maxmemory_policy"] == "noeviction":
                logger.warning(
                    "the Redis of shared_cache has no bound, or refuses values at it: set maxmemory, and "
                    "maxmemory-policy allkeys-lru"
                )


def open_store(settings: Settings) -> RedisStore | None:
    """The store of the settings; None where they name none. It connects when it is first asked.

    Raises SettingsError without the package for it, and for a secret that cannot be read.
    """
    if settings.shared_cache is None:
        return None
    client = partial(client_of, settings.shared_cache.get_secret_value())
    limits = StoreLimits(
        settings.shared_cache_timeout_ms / 1e3, settings.shared_cache_ttl_s, settings.shared_cache_queue_bytes
    )
    return RedisStore(client, Seal(_secret(settings)), limits)


def client_of(url: str) -> "Redis":
    """It connects when it is first used. Raises SettingsError without the package for it."""
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        needed = "shared_cache needs a package that is not installed: pip install 'dynrefer[redis]'."
        raise SettingsError(needed) from None
    return Redis.from_url(
        url,
        socket_connect_timeout=SOCKET_S,
        socket_timeout=SOCKET_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _secret(settings: Settings) -> bytes:
    path = settings.shared_cache_secret_file
    try:
        return b"" if path is None else read_secret(path)
    except ValueError as error:
        raise SettingsError(f"shared_cache_secret_file {path} {error}") from None


def _bytes_of(values: Mapping[bytes, bytes]) -> int:
    return sum(len(key) + len(value) for key, value in values.items())


def _parts(values: Mapping[bytes, bytes]) -> Iterator[dict[bytes, bytes]]:
    items = iter(values.items())
    while some := dict(itertools.islice(items, VALUES_AT_A_TIME)):
        yield some


def _answers(pipeline: Any) -> list[Any]:
    """What a round trip brought, the error of a key that holds something else than a value as `WRONG_TYPE`."""
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for place, answer in enumerate(answers):
        if isinstance(answer, Exception):
            if not str(answer).startswith("WRONGTYPE"):
                raise answer
            answers[place] = WRONG_TYPE
    return answers


def _is_answer(error: Exception) -> bool:
    """Whether the store is there, and answers with an error."""
    from redis.exceptions import ResponseError

    return isinstance(error, ResponseError)


def _reason(error: Exception) -> str:
    """In words of our own: what a server says of an error may hold the password that it was given."""
    from redis import exceptions

    if isinstance(error, exceptions.AuthenticationError):
        return "it refuses the user name or the password."
    if isinstance(error, exceptions.TimeoutError):
        return f"no answer within {SOCKET_S:g} s."
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return "TLS with it fails; its certificate may not be trusted here."
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return "it cannot be reached."
    if isinstance(error, exceptions.ResponseError):
        code = ERROR_CODE.match(str(error))
        return f"it answers with an error ({code[0] if code else type(error).__name__})."
    return f"what answers there is no Redis ({type(error).__name__})."
