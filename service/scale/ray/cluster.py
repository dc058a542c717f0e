"""A Ray cluster started on this machine, or one that runs already joined, before anything else of Ray is used."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dynrefer.service.settings import SettingsError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Which cluster, and of a local one how large: CPUs, GPUs, bytes of shared memory for its objects.

    `address` is HOST:PORT of a running cluster's GCS (`auto`: the one that runs on this machine); None starts a local one.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    object_store_bytes: int | None = None


@contextmanager
def cluster(settings: ClusterSettings) -> Iterator[None]:
    """Connect this process to a Ray cluster; a local one ends with the block. Raises SettingsError."""
    _set_environment(local=settings.address is None)
    try:
        import ray
    except ImportError:
        raise SettingsError("--engine ray needs the extra ray: pip install 'dynrefer[ray]'.") from None
    _read_environment_again()
    scratch = tempfile.mkdtemp(prefix="dynrefer-ray-") if settings.address is None else None
    try:
        ray.init(**_arguments(settings, scratch))
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _arguments(settings: ClusterSettings, scratch: str | None) -> dict[str, Any]:
    common = {"configure_logging": False, "log_to_driver": False}
    if settings.address is not None:
        return common | {"address": settings.address}
    return common | {
        "address": "local",
        "num_cpus": settings.cpus,
        "num_gpus": settings.gpus,
        "object_store_memory": settings.object_store_bytes or 200_000_000,
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
        "_temp_dir": scratch,
    }


def _set_environment(*, local: bool) -> None:
    """What Ray's processes read when they start, this one included; they inherit it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _read_environment_again() -> None:
    """Ray keeps what it read when it was first imported, which may have been before."""
    from ray._raylet import AuthenticationTokenLoader, Config

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
