"""The store in Redis: what comes back, and that a Redis which is dead, hangs or lies costs nothing but its hits."""

import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynrefer.service.scale.redis_store import RedisStore, open_store
from dynrefer.service.settings import Settings, SettingsError, load_settings
from tests.service.scale.redis_server import (
    PATIENCE_S,
    RedisServer,
    another_protocol,
    black_hole,
    listener,
    needs_redis,
    running_redis,
    trickle,
)

VALUES = {f"dynrefer:1:a:b:{number}".encode(): bytes([number]) * 1_000 for number in range(40)}
KEYS, NOTHING = list(VALUES), [None] * len(VALUES)

Make = Callable[..., RedisStore]


@pytest.fixture
def make() -> Iterator[Make]:
    """make(url, ...) opens a store with these settings, `shared_cache_` left out; patient unless told otherwise."""
    stores = []

    def open_it(url: str, **settings: object) -> RedisStore:
        named = {f"shared_cache_{name}": value for name, value in {"timeout_ms": 1_000, **settings}.items()}
        store = open_store(Settings(shared_cache=url, **named))  # type: ignore[arg-type]
        assert store is not None
        stores.append(store)
        return store

    yield open_it
    for store in stores:
        store.close()


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def connected(store: RedisStore) -> RedisStore:
    """Once its first probe has succeeded."""
    eventually(lambda: store.get_many([b"x"], 1) == [None] and store.counts.reading)
    return store


def filled(store: RedisStore) -> RedisStore:
    """Once it holds the values."""
    connected(store).put_many(VALUES)
    eventually(lambda: store.counts.written == len(VALUES))
    return store


def redis_keys(server: RedisServer, *command: bytes) -> bytes:
    """The answer to one command, by hand."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.url.removeprefix("unix://"))
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in command)
        connection.sendall(b"*%d\r\n" % len(command) + parts)
        return connection.recv(1 << 20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@needs_redis
def test_what_one_process_puts_another_finds(server: RedisServer, make: Make) -> None:
    filled(make(server.url))
    other = connected(make(server.url))
    assert other.get_many(KEYS, 1_000) == list(VALUES.values())
    assert other.get_many([b"another", KEYS[3], b"none"], 1_000) == [None, VALUES[KEYS[3]], None]
    assert other.get_many(KEYS[:2], 999) == [None, None]  # too long to be one of these
    life = int(redis_keys(server, b"TTL", KEYS[0]).strip(b":\r\n"))
    assert 86_000 < life <= 86_400


@needs_redis
def test_values_that_are_damaged_or_of_another_kind_are_misses(
    server: RedisServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(make(server.url))
    redis_keys(server, b"SETRANGE", KEYS[0], b"500", b"\xff")
    redis_keys(server, b"SET", KEYS[1], b"short")
    redis_keys(server, b"DEL", KEYS[2])
    redis_keys(server, b"LPUSH", KEYS[2], b"a list")
    redis_keys(server, b"APPEND", KEYS[3], b"x" * 100_000)
    redis_keys(server, b"COPY", KEYS[5], KEYS[4], b"REPLACE")
    for _ in range(2):
        assert store.get_many(KEYS[:6], 1_000) == [None] * 5 + [VALUES[KEYS[5]]]
    assert store.counts.invalid == 10 and store.counts.read_errors == 0
    assert sum("damaged or forged" in each.message for each in caplog.records) == 1


@needs_redis
def test_with_a_secret_nobody_else_makes_values(server: RedisServer, make: Make, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a secret of one deployment\n")
    two.write_text("a secret of the other one\n")
    ours = filled(make(server.url, secret_file=one))
    assert connected(make(server.url, secret_file=one)).get_many(KEYS, 1_000) == list(VALUES.values())
    for stranger in (make(server.url), make(server.url, secret_file=two)):
        assert connected(stranger).get_many(KEYS, 1_000) == NOTHING
        assert stranger.counts.invalid == 0
    name = redis_keys(server, b"RANDOMKEY").split(b"\r\n")[1]
    forged = name.rsplit(b":", 1)[0]
    redis_keys(server, b"SET", name, b"0" * 32 + VALUES[forged])
    assert ours.get_many([forged], 1_000) == [None] and ours.counts.invalid == 1


@needs_redis
def test_killed_and_started_again(server: RedisServer, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = filled(make(server.url))
    server.kill()
    for _ in range(20):
        assert store.get_many(KEYS, 1_000) == NOTHING
        store.put_many(VALUES)
    assert not store.counts.reading
    eventually(lambda: store.counts.dropped == 20 * len(VALUES))
    assert sum("is not used" in each.message for each in caplog.records) == 1
    server.start()
    connected(store)
    eventually(lambda: store.put_many({KEYS[0]: b"again"}) or store.get_many(KEYS[:1], 5) == [b"again"])
    assert sum("answers again" in each.message for each in caplog.records) == 1


@needs_redis
def test_one_that_is_stopped_is_asked_a_few_times_and_left_alone(server: RedisServer, make: Make) -> None:
    store = filled(make(server.url, timeout_ms=50))
    server.send(signal.SIGSTOP)
    for _ in range(1_000):
        assert store.get_many(KEYS, 1_000) == NOTHING
    assert store.counts.read_errors <= 4 and not store.counts.reading
    server.send(signal.SIGCONT)
    eventually(lambda: store.get_many(KEYS, 1_000) == list(VALUES.values()))


@needs_redis
def test_a_wrong_password_is_one_line_without_it(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynrefer.service.scale.circuit_breaker.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("dynrefer.service.scale.circuit_breaker.LONGEST_PAUSE_S", 0.0)
    with running_redis(tmp_path, "--requirepass", "right-password") as server:
        store = make(server.url.replace("unix://", "unix://:wrong-password@"))
        eventually(lambda: not any(store.get_many(KEYS, 1_000)) and store.counts.read_errors >= 5)
        (line,) = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
        assert line.endswith("it refuses the user name or the password.") and "wrong-password" not in caplog.text
        filled(make(server.url.replace("unix://", "unix://:right-password@")))


@needs_redis
def test_one_that_is_full_still_gives_what_it_has(tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with running_redis(tmp_path, "--maxmemory-policy", "noeviction") as server:
        store = filled(make(server.url))
        redis_keys(server, b"CONFIG", b"SET", b"maxmemory", b"1")
        store.put_many({b"new": b"value"})
        eventually(lambda: store.counts.write_errors == 1)
        assert store.get_many(KEYS, 1_000) == list(VALUES.values()) and not store.counts.writing
    text = " ".join(each.message for each in caplog.records)
    assert "takes no values" in text and "OutOfMemoryError" in text and "maxmemory-policy allkeys-lru" in text


@pytest.mark.parametrize(
    ("talk", "reason"), [(black_hole, "no answer within 1 s"), (another_protocol, "what answers there is no Redis")]
)
def test_what_is_no_redis_is_never_waited_for(
    make: Make, caplog: pytest.LogCaptureFixture, talk: Callable[[socket.socket], None], reason: str
) -> None:
    with listener(talk) as url:
        store = make(url)
        for _ in range(1_000):
            assert store.get_many(KEYS, 1_000) == NOTHING
            store.put_many(VALUES)
        eventually(lambda: reason in caplog.text)
        assert store.counts.read_errors > 0 and not store.counts.reading
        eventually(lambda: store.counts.dropped == 1_000 * len(VALUES))


def test_nothing_listens(make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    store = make(f"unix://{tmp_path}/none.sock")
    assert store.get_many(KEYS, 1_000) == NOTHING
    eventually(lambda: "it cannot be reached." in caplog.text)
    assert store.counts.read_errors == 1


def test_an_answer_byte_by_byte_is_too_late(make: Make) -> None:
    """Each byte comes in time for a limit on a read; the answer does not."""
    with listener(trickle) as url:
        store = make(url, timeout_ms=30)
        eventually(lambda: store.get_many(KEYS, 1_000) == NOTHING and store.counts.read_errors == 1)
        for _ in range(1_000):
            assert store.get_many(KEYS, 1_000) == NOTHING
        assert not store.counts.reading and store.counts.read_errors <= 2


def test_what_waits_to_be_written_is_bounded(make: Make) -> None:
    with listener(black_hole) as url:
        store = make(url, queue_bytes=100_000)
        for _ in range(10):
            store._waiting.put({})  # the writer has not begun
        store._begin = lambda: None  # type: ignore[method-assign]
        for _ in range(5):
            store.put_many(VALUES)  # 41 kB
        assert store.counts.dropped == 3 * len(VALUES)
        store.close()
        store.put_many({b"a": b"b"})
        assert store.counts.dropped == 3 * len(VALUES) + 1


def test_without_a_setting_there_is_none() -> None:
    assert open_store(Settings()) is None


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://127.0.0.1", "none of a Redis"),
        ("127.0.0.1:6379", "none of a Redis"),
        ("redis://", "names no host"),
        ("redis://cache:port", "no URL"),
        ("redis://cache:0", "none of a Redis"),
        ("redis://cache/one", "number of a database"),
        ("redis://cache/0?socket_timeout=9", "'socket_timeout' is none of its options"),
        ("redis://cache?db=x", "db is the number"),
        ("unix://run/redis.sock", "three slashes"),
    ],
)
def test_a_wrong_url_is_a_sentence_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch, url: str, part: str) -> None:
    with_password = url.replace("://", "://:hidden@") if "://" in url and url.count("/") > 1 else url
    for given in (url, with_password):
        monkeypatch.setenv("DYNREFER_SHARED_CACHE", given)
        with pytest.raises(SettingsError) as refused:
            load_settings()
        assert str(refused.value).startswith("DYNREFER_SHARED_CACHE is invalid: ")
        assert "hidden" not in str(refused.value)
        assert part in str(refused.value) or given != url


def test_a_password_does_not_stand_in_a_command_line() -> None:
    with pytest.raises(SettingsError, match="set DYNREFER_SHARED_CACHE instead"):
        load_settings({"shared_cache": "redis://:secret@cache"})
    settings = load_settings({"shared_cache": "redis://cache:6379/1"})
    assert "cache:6379" not in repr(settings)


def test_the_secret_s_file_is_read_at_start(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("short")
    for given, part in ((path, "16 bytes"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(SettingsError, match=part):
            open_store(Settings(shared_cache="redis://cache", shared_cache_secret_file=given))  # type: ignore[arg-type]
