"""A Ray cluster started on this machine, or one that runs already joined, before anything else of Ray is used.

A local one listens on the loopback interface alone, asks for a random token, and leaves nothing behind: its processes
end with this one, even a killed one, and its folder is removed. `docs/ray.md` says what runs, and what that costs.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dynrefer.service.scale.ray import cluster_environment
from dynrefer.service.scale.ray.last_will import last_will
from dynrefer.service.scale.ray.object_store import object_store_bytes
from dynrefer.service.scale.ray.scratch import WITHIN, scratch_folder
from dynrefer.service.settings import SettingsError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
AUTO = "auto"
CONNECT_S = 5.0
JOIN_ATTEMPTS = 2  # Ray's own 20 are for a cluster that is just starting, and take it minutes to give up
ALIVE_S = 2.0


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which cluster, and of a local one how large: CPUs, GPUs, bytes of shared memory for its objects.

    `address` is HOST:PORT of a running cluster, or `auto` for the one that runs on this machine; None starts a local
    one. A size of None is what the machine has. A cluster that is joined has its own size: `cpus` and `gpus` say
    nothing there, and `object_store_bytes` is refused.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    object_store_bytes: int | None = None


@contextmanager
def cluster(settings: ClusterSettings) -> Iterator[None]:
    """This process is connected to a Ray cluster inside the block; a local one ends with it.

    To be entered in the main thread, or in one that lives as long: Linux kills the processes of a local cluster when
    the thread that started them ends. Raises SettingsError, one sentence, where the cluster cannot be had.
    """
    try:
        import ray
    except ImportError:
        raise SettingsError("engine ray needs pip install 'dynrefer[ray]'.") from None
    if ray.is_initialized():
        raise SettingsError("this process is connected to a Ray cluster already; leave that one first.")
    with ExitStack() as stack:
        _let_connect()
        _log_as_ours()
        stack.enter_context(cluster_environment.printing_replaced(by=logger.warning))
        stack.enter_context(_sigterm_leaves_the_block())
        if settings.address is None:
            scratch = stack.enter_context(scratch_folder())
            stack.enter_context(last_will(scratch, raylet=_start(settings, scratch)))
        else:
            _join(settings, settings.address)
        # What is called too late, of a cluster that has ended, must not start another one.
        cluster_environment.inner("_private.auto_init_hook").enable_auto_connect = False
        stack.callback(_leave)
        yield


def alive() -> bool:
    """Whether the cluster of this process still works; asks the network of a joined one, for up to two seconds.

    To be asked once a second or so: what Ray does about a dead control process is to end this process after a minute,
    without a word to those whose requests it has.
    """
    worker = cluster_environment.inner("_private.worker").global_worker
    node = worker.node
    if node is None:
        return False
    if any(info.process.poll() is not None for each in list(node.all_processes.values()) for info in each):
        return False
    if node.all_processes:
        return True
    try:
        worker.gcs_client.internal_kv_get(b"alive", None, timeout=ALIVE_S)
    except Exception:  # whatever Ray raises here, the cluster does not answer
        return False
    return True


def _start(settings: ClusterSettings, scratch: Path) -> int:
    """Start a local cluster in the folder; the id of its raylet's process. Raises SettingsError."""
    import ray
    from ray._common.utils import get_system_memory

    arguments: dict[str, Any] = {
        "address": "local",  # and not what RAY_ADDRESS names
        "num_cpus": settings.cpus,
        "num_gpus": settings.gpus,
        "object_store_memory": object_store_bytes(settings.object_store_bytes, get_system_memory()),
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
        "_temp_dir": str(scratch / WITHIN),
    }
    with (
        cluster_environment.environment(cluster_environment.local_environment(os.environ)),
        cluster_environment.few_processes(),
        cluster_environment.signals_kept(),
    ):
        cluster_environment.read_environment_again()
        try:
            ray.init(**arguments, configure_logging=False, log_to_driver=False)
        except Exception as error:  # Ray raises its own errors, AssertionError, ValueError and bare Exception here
            _end_what_started()
            raise SettingsError(f"Ray cannot start a local cluster: {_first_line(error)}.") from error
    (raylet,) = cluster_environment.inner("_private.worker").global_worker.node.all_processes["raylet"]
    return int(raylet.process.pid)


def _join(settings: ClusterSettings, address: str) -> None:
    """Connect to the cluster at the address. Raises SettingsError."""
    import ray

    if settings.object_store_bytes is not None:
        raise SettingsError("object_store_bytes is the size of a local cluster; leave it out where ray_address is set.")
    if address == AUTO:
        address = _found_address()
    host = _checked_host(address)
    ray_constants = cluster_environment.inner("_private.ray_constants")
    attempts = ray_constants.NUM_REDIS_GET_RETRIES
    with (
        cluster_environment.environment(cluster_environment.joined_environment(os.environ, host)),
        cluster_environment.signals_kept(),
    ):
        cluster_environment.read_environment_again()
        ray_constants.NUM_REDIS_GET_RETRIES = JOIN_ATTEMPTS
        try:
            ray.init(address=address, configure_logging=False, log_to_driver=False)
        except Exception as error:
            _end_what_started()
            _refuse(address, error)
        finally:
            ray_constants.NUM_REDIS_GET_RETRIES = attempts


def _found_address() -> str:
    """HOST:PORT of the cluster that RAY_ADDRESS names or that runs on this machine. Raises SettingsError."""
    try:
        found = cluster_environment.inner("_private.services").get_ray_address_from_environment(AUTO, None)
    except ConnectionError:
        raise SettingsError(
            "ray_address auto: no Ray cluster runs on this machine; name its address as HOST:PORT, or leave "
            "ray_address out to start one."
        ) from None
    return str(found)


def _checked_host(address: str) -> str:
    """The host of an address at which something listens. Raises SettingsError."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise SettingsError(
            f"ray_address {address!r} is invalid: HOST:PORT of the cluster's head is expected (as `ray start --head` "
            "prints it), or auto for the cluster of this machine."
        )
    host = host.removeprefix("[").removesuffix("]")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"ray_address {address}: nothing answers there ({error}); is it what `ray start --head` printed?"
        ) from None
    if not _a_node_runs_here():
        raise SettingsError(
            f"ray_address {address}: no node of a Ray cluster runs on this machine, and a process reaches a cluster "
            f"only through one; start it with `ray start --address={address}`, or serve inside of the cluster."
        )
    return host


def _a_node_runs_here() -> bool:
    """Whether a raylet runs on this machine, as far as this process may see."""
    if not Path("/proc/self/comm").exists():
        return True  # Ray looks itself, for a minute
    for found in Path("/proc").glob("[0-9]*/comm"):
        try:
            if found.read_text(encoding="utf-8", errors="replace").strip() == "raylet":
                return True
        except OSError:
            continue
    return False


def _refuse(address: str, error: BaseException) -> NoReturn:
    """Raise as SettingsError what Ray says about a cluster that cannot be joined."""
    said = "\n".join(_chain(error))
    if "InvalidAuthToken" in said or "uthentication" in said or "Unauthenticated" in said:
        raise SettingsError(
            f"ray_address {address}: the cluster does not accept this process's token; set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file) to the token that the cluster was started with."
        ) from error
    if "ersion mismatch" in said:
        import ray

        own = f"Ray {ray.__version__} and Python {sys.version.split()[0]}"
        raise SettingsError(
            f"ray_address {address}: the cluster runs another version of Ray or Python than this process, which has "
            f"{own}; both have to be the same."
        ) from error
    raise SettingsError(f"ray_address {address}: the cluster cannot be joined: {_first_line(error)}.") from error


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _end_what_started() -> None:
    """After an `init` that failed: forget what it has connected to."""
    import ray

    ray.shutdown()


def _leave() -> None:
    """Disconnect, and let nobody connect this process anew: Serve calls `ray.init` wherever it finds no connection,
    whatever `enable_auto_connect` says, and what it is called for too late would start another cluster."""
    import ray

    module: Any = ray
    module.init = _Refusal(ray.init)
    ray.shutdown()


def _let_connect() -> None:
    """After a `_leave`."""
    import ray

    module: Any = ray
    if isinstance(module.init, _Refusal):
        module.init = module.init.instead_of


class _Refusal:
    """In the place of `ray.init`, once the process has left its cluster."""

    def __init__(self, instead_of: Any) -> None:
        self.instead_of = instead_of

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("this process has left its Ray cluster")


def _log_as_ours() -> None:
    """Ray's log lines in this process take the way of all others, instead of one of their own to stderr."""
    found = logging.getLogger("ray")
    found.handlers.clear()
    found.propagate = True
    found.setLevel(logging.WARNING)


@contextmanager
def _sigterm_leaves_the_block() -> Iterator[None]:
    """Where nothing handles SIGTERM, it leaves the block by SystemExit, so that the cluster is ended too."""
    default = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not default:
        yield
        return

    def leave(number: int, _: Any) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
