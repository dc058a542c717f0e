"""The Redis of `shared_cache`, asked once before the service starts: what will never work is said at once.

One that does not answer may answer later, and costs no more than its hits: that is told, and does not keep the service
from starting.
"""

import queue
import threading
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from dynrefer.service.scale.redis_store import SOCKET_S, client_of, open_store
from dynrefer.service.settings import PREFIX, Settings, SettingsError

WITHIN_S = 4 * SOCKET_S  # name resolution, which has no limit of its own, included
UNREACHABLE = (
    "shared_cache: nothing answers at its address now; the service goes on without it, and tries again. Is the Redis "
    "running, and are host and port right?"
)
KEY = b"dynrefer:start"  # looked for, never set


def check_store(settings: Settings) -> str:
    """What is to be told of a store that cannot be reached now; empty for one that answers, and without one.

    Raises SettingsError where it answers and refuses what the setting says: the password, the database, TLS; and as
    `open_store` does.
    """
    if settings.shared_cache is None or (store := open_store(settings)) is None:
        return ""
    store.close()  # its package is there, and its secret can be read
    url = settings.shared_cache.get_secret_value()
    for name, path in parse_qsl(urlsplit(url).query):
        if name.startswith("ssl_") and not Path(path).is_file():
            raise SettingsError(f"shared_cache: {name} names no file: {path}")
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(_flaw_of(url)), name="shared cache, start", daemon=True).start()
    try:
        flaw = found.get(timeout=WITHIN_S)
    except queue.Empty:
        flaw = ""
    if flaw:
        raise SettingsError(f"shared_cache: {flaw}")
    return UNREACHABLE if flaw == "" else ""


def _flaw_of(url: str) -> str | None:
    """What will never work; empty where nothing answers, None where all is well."""
    error = _asked(url)
    if error is None:
        return None
    if flaw := _flaw(error):
        return flaw
    if (other := _with_the_other_scheme(url)) and _answers(_asked(other)):
        scheme = urlsplit(other).scheme
        return f"the server speaks {'TLS alone' if scheme == 'rediss' else 'no TLS'}: write {scheme}://."
    return ""


def _asked(url: str) -> Exception | None:
    """What a new connection and the commands that only read end with."""
    client = client_of(url)
    try:
        client.ping()
        client.getrange(KEY, 0, 0)
    except Exception as error:  # of whatever answers there: the library raises more than its own
        return error
    finally:
        client.connection_pool.disconnect()
    return None


def _with_the_other_scheme(url: str) -> str:
    """With TLS or without it, and without name and password, which nobody else is to read; empty of a Unix socket."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return ""
    scheme = "redis" if parts.scheme == "rediss" else "rediss"
    return urlunsplit((scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def _answers(error: Exception | None) -> bool:
    """Whether what answered is a Redis, or speaks TLS, even where it refuses."""
    from redis import exceptions

    refused = isinstance(error, exceptions.AuthenticationError | exceptions.ResponseError)
    return error is None or refused or "CERTIFICATE_VERIFY_FAILED" in str(error)


def _flaw(error: Exception) -> str:
    """What will not work later either, in words of our own: a server's may hold the password. Empty: it may."""
    from redis import exceptions

    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "the server's certificate is not trusted here; name that of its authority with ?ssl_ca_certs=FILE."
    if isinstance(error, exceptions.NoPermissionError):
        return "its user may not use GETRANGE on keys dynrefer:*, SET and PING; allow them with ACL SETUSER."
    if isinstance(error, exceptions.AuthenticationError):
        if "without any password configured" in str(error):
            return f"the server has no password, and the URL gives one; set {PREFIX}SHARED_CACHE without it."
        return f"the server refuses the user name or the password, or wants one: set them in {PREFIX}SHARED_CACHE."
    if isinstance(error, exceptions.InvalidResponse):
        return "what answers there is no Redis; name the port of one."
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return ""  # one that is loading its data among them
    if isinstance(error, exceptions.ResponseError):
        said = str(error)
        if said.startswith(("MOVED", "ASK", "CLUSTERDOWN")):
            return "it is a Redis Cluster; name one server that is no part of one."
        if "DB index" in said or "invalid DB" in said:
            return "the server has no database of that number; write a smaller one behind the host, such as /0."
    return ""
