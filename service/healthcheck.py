"""`python -m dynrefer.service.healthcheck`: exits with 0 if the service of this container is ready, else with 1.

It asks where the DYNREFER_* variables, or those of the platform, say that the service listens. It is run every few
seconds, so it does not load the settings themselves, which take longer than the question.
"""

import http.client
import os
import socket
import sys
from collections.abc import Mapping

TIMEOUT_S = 4.0
# What `Settings` has, where a variable is not set or is one that Kubernetes has set for a Service named dynrefer.
DEFAULT_PORT = 8_000
PORTS = ("DYNREFER_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT")  # the first that is a number
EVERY_ADDRESS = {"", "0.0.0.0", "::", "[::]"}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Called by the first request."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection(environment: Mapping[str, str]) -> http.client.HTTPConnection:
    """A connection, not opened yet, to the service with this environment."""
    path = environment.get("DYNREFER_UNIX_SOCKET", "")
    if path:
        return UnixConnection(path, TIMEOUT_S)
    host = environment.get("DYNREFER_HOST", "")
    host = "127.0.0.1" if host in EVERY_ADDRESS else host.strip("[]")
    ports = (environment.get(name, "").strip() for name in PORTS)
    port = next((int(port) for port in ports if port.isdecimal()), DEFAULT_PORT)
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def is_ready(environment: Mapping[str, str]) -> bool:
    """Whether /readyz answers 200."""
    asked = connection(environment)
    try:
        asked.request("GET", "/readyz")
        return asked.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


if __name__ == "__main__":
    sys.exit(not is_ready(os.environ))
