"""A local cluster: what runs, where it listens, who may use it, and that nothing of it stays. One that is joined."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster
from dynrefer.service.settings import SettingsError
from tests.repository import ROOT
from tests.service.scale.ray.cluster_process import STORE_BYTES, TOKEN, Driven, running, wait_until

pytest.importorskip("ray")
pytestmark = pytest.mark.server

LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}  # 127.0.0.1, ::ffff:127.0.0.1 and ::1 as /proc/net writes them
NOBODY = {"00000000", "0" * 32}
LISTENING = "0A"
# A user of whom the system knows no name; root outside of it, so that it may read where Python lies.
NAMELESS = ("unshare", "--user", "--map-user=54321", "--map-group=54321")


def may_be_nameless() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NAMELESS, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The only folder that the process is told of. pytest's own is too long for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def local(home: Path) -> Iterator[Driven]:
    """A process without HOME and without a name in /etc/passwd, in a cluster of its own that has run a task."""
    prefix = NAMELESS if may_be_nameless() else ()
    with Driven({"TMPDIR": str(home)}, prefix, object_store_bytes=STORE_BYTES) as found:
        assert found("task(lambda: 7)") == 7
        yield found


def sockets(pids: list[int]) -> Iterator[tuple[str, str, str]]:
    """(local address:port, remote address:port, state) of every TCP and UDP socket of these processes, in hex."""
    own = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                own.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[9] in own:
                yield fields[1], fields[2], fields[3]


def test_every_socket_is_of_the_loopback_interface(local: Driven) -> None:
    found = list(sockets(list(local.tree())))
    assert [each for each in found if each[2] == LISTENING]
    assert {here.split(":")[0] for here, _, _ in found} <= LOOPBACK
    assert {there.split(":")[0] for _, there, _ in found} <= LOOPBACK | NOBODY


def test_only_what_is_needed_runs(local: Driven) -> None:
    def only_what_is_needed() -> bool:
        lines = [line for line in local.tree().values() if line]
        system = [line for line in lines if not line.startswith("ray::IDLE")]
        assert not [line for line in lines if "dashboard.py" in line or "monitor.py" in line]
        # Ours, GCS, raylet, its two agents, the shell that waits for our end; a worker for each CPU.
        return len(system) == 6 and len(lines) <= 6 + 2

    # A process that is being started is seen twice for a moment: the fork has its parent's command line.
    assert wait_until(only_what_is_needed), local.tree()


def test_the_token_stands_in_no_file_no_command_line_and_not_in_our_environment(local: Driven, home: Path) -> None:
    token = local.token()
    assert len(token) == 64
    assert local("[name for name in os.environ if name.startswith('RAY_AUTH')]") == []
    assert not [line for line in local.tree().values() if token in line]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files and not [path for path in files if token.encode() in path.read_bytes()]
    assert not list(home.rglob("auth_token"))


def test_the_session_lies_in_the_given_folder_with_a_path_short_enough(local: Driven, home: Path) -> None:
    (scratch,) = home.glob("dynrefer-ray-*")
    assert scratch.stat().st_mode & 0o077 == 0
    (plasma,) = scratch.glob("r/session_2*/sockets/plasma_store")
    assert len(os.fsencode(plasma)) <= 107


def test_http_without_the_token_is_refused(local: Driven) -> None:
    """The agents' ports speak HTTP; one of them installs packages for whoever may ask."""
    refused = 0
    for here, _, state in sockets([local.of("ray::DashboardAgent"), local.of("ray::RuntimeEnvAgent")]):
        if state == LISTENING and len(here.split(":")[0]) == 8:
            connection = http.client.HTTPConnection("127.0.0.1", int(here.split(":")[1], 16), timeout=10)
            connection.request("POST", "/get_or_create_runtime_env", body=b"")
            refused += connection.getresponse().status == 401
            connection.close()
    assert refused == 2


def test_a_process_joins_with_the_token_and_runs_a_task(local: Driven) -> None:
    address = local("ray.get_runtime_context().gcs_address")
    environment = {"RAY_AUTH_MODE": "token", TOKEN: local.token()}
    with Driven(environment, address=address, object_store_bytes=None, cpus=None, gpus=None) as joined:
        assert joined("task(lambda: 8)") == 8 and joined("alive()") is True
        assert {line.split(" --")[0] for line in joined.tree().values() if "raylet" in line} == set()
        assert joined.end() == (0, "")
    assert local("alive()") is True and local("task(lambda: 9)") == 9


ATTEMPT = """
import sys
from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster
from dynrefer.service.settings import SettingsError
import ray
if len(sys.argv) > 2: ray.__version__ = sys.argv[2]
try:
    with cluster(ClusterSettings(sys.argv[1])):
        print("joined")
except SettingsError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("token", "version", "sentence"),
    [
        (None, (), "does not accept this process's token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        ("0" * 64, (), "does not accept this process's token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        ("right", ("2.1.0",), "runs another version of Ray or Python than this process, which has Ray 2.1.0"),
    ],
)
def test_one_sentence_where_a_cluster_cannot_be_joined(
    local: Driven, token: str | None, version: tuple[str, ...], sentence: str
) -> None:
    address = local("ray.get_runtime_context().gcs_address")
    given = {} if token is None else {"RAY_AUTH_MODE": "token", TOKEN: local.token() if token == "right" else token}
    command = [sys.executable, "-c", ATTEMPT, address, *version]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"ray_address {address}: the cluster {sentence}") and done.stdout.count("\n") == 1


def test_what_ray_says_goes_to_our_log_and_nothing_to_standard_output(local: Driven) -> None:
    """`Driven` fails at any line of standard output but its own. Last, for it ends the process."""
    code = "[type(error).__name__ for error in [None]] if task(lambda: 1) else 0"
    assert local(code) == ["NoneType"]
    died = "ray.wait([ray.remote(max_retries=0)(lambda: __import__('os')._exit(3)).remote()], timeout=20)[1]"
    assert local(died) == []
    assert local("__import__('time').sleep(2)") is None
    code_of_exit, written = local.end()
    assert code_of_exit == 0
    assert "A worker died" in written
    assert not [line for line in written.splitlines() if not line.startswith("ours ")], written


def test_no_process_of_the_cluster_has_a_secret_of_the_service(home: Path) -> None:
    secrets = {"DYNREFER_API_KEYS": "secret-1", "DYNREFER_SHARED_CACHE": "redis://a:secret-2@b/0"}
    with Driven({"TMPDIR": str(home), **secrets}, object_store_bytes=STORE_BYTES) as driven:
        assert driven("task(lambda: [each for each in __import__('os').environ.values() if 'secret-' in each])") == []
        others = [pid for pid in driven.tree() if pid != driven.process.pid]
        assert others and not [pid for pid in others if b"secret-" in Path(f"/proc/{pid}/environ").read_bytes()]
        assert driven("os.environ['DYNREFER_API_KEYS']") == "secret-1"


def test_sigterm_ends_the_cluster_and_removes_its_folder(home: Path) -> None:
    with Driven({"TMPDIR": str(home)}, object_store_bytes=STORE_BYTES) as driven:
        pids = list(driven.tree())
        driven.process.send_signal(signal.SIGTERM)
        assert driven.end()[0] == 128 + signal.SIGTERM
        assert wait_until(lambda: not running(pids))
    assert not list(home.glob("dynrefer-ray-*"))


def test_a_dead_control_process_is_noticed_and_a_killed_run_leaves_nothing(home: Path) -> None:
    from dynrefer.service.scale.ray.scratch import remove_left_behind

    with Driven({"TMPDIR": str(home)}, object_store_bytes=STORE_BYTES) as driven:
        assert driven("alive()") is True
        remove_left_behind(home)
        assert list(home.glob("dynrefer-ray-*"))  # its run is alive
        os.kill(driven.of("gcs/gcs_server"), signal.SIGKILL)
        assert wait_until(lambda: driven("alive()") is False)
        pids = list(driven.tree())
        driven.process.kill()
        driven.process.wait()
        assert wait_until(lambda: not running(pids) and not list(home.glob("dynrefer-ray-*")))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (ClusterSettings("nohost"), "ray_address 'nohost' is invalid: HOST:PORT"),
        (ClusterSettings("ray://127.0.0.1:10001"), "ray_address 'ray://127.0.0.1:10001' is invalid: HOST:PORT"),
        (ClusterSettings("127.0.0.1:1"), "ray_address 127.0.0.1:1: nothing answers there"),
        (ClusterSettings("127.0.0.1:99999"), "ray_address 127.0.0.1:99999"),
        (
            ClusterSettings("a:1", object_store_bytes=1),
            "object_store_bytes is the size of a local cluster; leave it out",
        ),
        (ClusterSettings(object_store_bytes=1), "object_store_bytes 1 is too small"),
        (ClusterSettings(object_store_bytes=2**60), "object_store_bytes 1152921504606846976 is more than the memory"),
    ],
)
def test_settings_that_cannot_be_used(settings: ClusterSettings, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence.replace("(", "[(]")), cluster(settings):
        raise AssertionError


def test_a_machine_without_a_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynrefer.service.scale.ray.cluster._a_node_runs_here", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with pytest.raises(SettingsError, match=f"`ray start --address={address}`"), cluster(ClusterSettings(address)):
            raise AssertionError
