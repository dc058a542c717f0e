"""The built image in containers set up as in production: `make image-test` (not in CI, which has no container engine).

Environment: IMAGE, the image to test. ENGINE, the command that runs containers, with its general options.
"""

import base64
import json
import os
import re
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
IMAGE = os.environ.get("IMAGE", "dynrefer")
# runc with cgroupfs and an event file: podman's defaults need systemd.
ENGINE = shlex.split(os.environ.get("ENGINE", "podman --runtime runc --cgroup-manager cgroupfs --events-backend file"))
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", "--memory=2g"),
    *("--ulimit", "nofile=8192:8192", "--ulimit", "nproc=8192:8192"),
)
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60
SIZE_LIMIT_BYTES = 2_000_000_000


def engine(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done


class Container:
    """A running container of the image, and its published port (0 without a network)."""

    def __init__(self, *options: str) -> None:
        self.started = time.monotonic()
        self.name = engine("run", "--detach", *HARDENED, *options, IMAGE).stdout.strip()
        published = engine("port", self.name, "8000/tcp", check=False).stdout
        self.port = int(published.rsplit(":", 1)[1]) if published else 0

    def inside(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        return engine("exec", "--interactive", self.name, *command, check=check, **options)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:  # nothing listens yet, or the connection was closed
            return 0, ""

    def healthy(self) -> bool:
        return engine("healthcheck", "run", self.name, check=False).returncode == 0

    def wait_until_ready(self) -> float:
        """Seconds from the container's start to the first 200 of /readyz, requested from inside if it has no port."""
        deadline = self.started + START_TIMEOUT_S
        next_look = self.started
        while not (self.get("/readyz")[0] == 200 if self.port else self.healthy()):
            if (now := time.monotonic()) > next_look:
                assert now < deadline and self.state("Running") == "true", engine("logs", self.name).stderr
                next_look = now + 1
            time.sleep(0.05)
        return time.monotonic() - self.started

    def state(self, field: str) -> str:
        return engine("inspect", "--format", f"{{{{.State.{field}}}}}", self.name).stdout.strip()

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        engine("stop", "--time", str(STOP_TIMEOUT_S), self.name)
        return int(self.state("ExitCode"))


@contextmanager
def running(*options: str) -> Iterator[Container]:
    container = Container(*options)
    try:
        container.wait_until_ready()
        yield container
    finally:
        engine("rm", "--force", "--volumes", container.name)


@pytest.fixture(scope="module")
def served() -> Iterator[Container]:
    with running("--publish", "127.0.0.1::8000") as container:
        yield container


def readme_exchange() -> tuple[str, dict[str, Any]]:
    """The first curl command of the README, and the region in the answer below it."""
    request = r"^(curl -s http://127\.0\.0\.1:8000/v1/describe.*?')$"
    found = re.search(request + r".*?^```json\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found
    (region,) = json.loads(found[2].replace("{...}", "{}"))["regions"]
    return found[1], region


def refused(*options: str, command: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """Exit code and the lines on standard error of a command that must fail; without one the image's own, `serve`."""
    done = engine("run", "--rm", *HARDENED, *options, IMAGE, *command, check=False, timeout=START_TIMEOUT_S)
    # podman itself writes such lines where no systemd runs its timers.
    return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("time=")]


def test_image_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    size = int(engine("image", "inspect", "--format", "{{.Size}}", IMAGE).stdout)
    with capsys.disabled():
        print(f"\nimage size: {size / 1e6:,.0f} MB")
    assert size < SIZE_LIMIT_BYTES


def test_becomes_ready_and_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    container = Container("--publish", "127.0.0.1::8000")
    try:
        early = container.healthy()
        seconds = container.wait_until_ready()
        with capsys.disabled():
            print(f"\ntime to ready: {seconds:.1f} s")
        assert not early
        assert container.healthy()
        assert container.state("Health.Status") == "healthy"
        assert container.stop() == 0
    finally:
        engine("rm", "--force", "--volumes", container.name)


def test_answers_the_readme_through_a_published_port(served: Container) -> None:
    request, expected = readme_exchange()
    command = request.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    (region,) = json.loads(done.stdout)["regions"]
    assert region.keys() == expected.keys()
    assert [region[name] for name in ("id", "box")] == [expected[name] for name in ("id", "box")]
    assert region["caption"]["text"] == expected["caption"]["text"]


def test_runs_without_privileges(served: Container) -> None:
    status = dict(
        line.split(":\t", 1) for line in served.inside("cat", "/proc/1/status").stdout.splitlines() if "\t" in line
    )
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"10001"}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("folder", ["/", "/opt/dynrefer", "/home", "/var/lib"])
def test_root_file_system_is_read_only(served: Container, folder: str) -> None:
    done = served.inside("mkdir", f"{folder}/new", check=False)
    assert done.returncode != 0 and "Read-only file system" in done.stderr


def test_memory_is_limited(served: Container) -> None:
    limits = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert str(2 * 2**30) in served.inside("sh", "-c", f"cat {limits} 2>/dev/null || true").stdout.split()


def test_holds_no_build_tools(served: Container) -> None:
    tools = "cc gcc g++ c++ clang ld make cmake rustc cargo go nvcc uv git"
    assert not served.inside("sh", "-c", f"for each in {tools}; do command -v $each; done; true").stdout
    packages = "sklearn pycocoevalcap resvg_py pytest mypy ruff pip"
    code = f"import importlib.util as u; print([n for n in '{packages}'.split() if u.find_spec(n)])"
    assert served.inside("/opt/dynrefer/bin/python", "-c", code).stdout.strip() == "[]"
    assert not served.inside("sh", "-c", "ls -d /root/.cache/* /src /opt/uv 2>/dev/null; true").stdout


def test_holds_no_settings_of_the_machine_that_built_it(served: Container) -> None:
    """docker/build_local.sh mounts pip's settings for the build; an empty file may be left where one was mounted."""
    assert not served.inside("sh", "-c", "cat /etc/pip.conf 2>/dev/null; true").stdout


def test_leaves_the_workbench_out(served: Container) -> None:
    code = "import importlib.util as u; print(u.find_spec('dynrefer.workbench'))"
    assert served.inside("/opt/dynrefer/bin/python", "-c", code).stdout.strip() == "None"


@pytest.mark.parametrize(("command", "extra"), [("train", "train"), ("evaluate", "evaluate")])
def test_says_how_to_get_the_workbench(command: str, extra: str) -> None:
    code, lines = refused(command=(command,))
    assert (code, len(lines)) == (2, 1)
    assert f"dynrefer[{extra}]" in lines[0]


def test_nothing_is_compiled_at_the_start(served: Container) -> None:
    """Python could not store the bytecode: the file system is read-only."""
    code = (
        "import os, sys, torch, transformers, dynrefer.model.predictor, dynrefer.service.server.server;"
        "kept = {name: getattr(module, '__cached__', None) for name, module in list(sys.modules.items())};"
        "print([name for name, path in kept.items() if isinstance(path, str) and not os.path.exists(path)])"
    )
    assert served.inside("/opt/dynrefer/bin/python", "-c", code).stdout.strip() == "[]"


def test_inventory_names_what_is_installed(served: Container) -> None:
    code = "import importlib.metadata as m; print(*{d.name + '=' + d.version for d in m.distributions()})"
    installed = set(served.inside("/opt/dynrefer/bin/python", "-c", code).stdout.split())
    bill = json.loads(served.inside("cat", "/usr/share/doc/dynrefer/sbom.cdx.json").stdout)
    components = [bill["metadata"]["component"], *bill["components"]]
    assert {f"{each['name']}={each['version']}" for each in components} == installed
    table = served.inside("cat", "/usr/share/doc/dynrefer/licences.md").stdout.splitlines()[2:]
    licences = {cells[1].strip(): cells[3].strip() for cells in (line.split("|") for line in table)}
    assert len(licences) == len(installed)
    assert not [name for name, licence in licences.items() if licence == "UNKNOWN" or "GPL" in licence]


def test_documentation_page_names_no_other_host(served: Container) -> None:
    status, page = served.get("/docs")
    assert status == 200 and "http://" not in page and "https://" not in page


def test_answers_without_a_network() -> None:
    scene = base64.b64encode((ROOT / "docs/images/scene.png").read_bytes()).decode()
    document = {"image": {"base64": scene}, "regions": [{"id": "top", "box": [41, 2, 117, 82]}], "top_k": 2}
    code = (
        "import sys, urllib.request as u\n"
        "json = {'content-type': 'application/json'}\n"
        "request = u.Request('http://127.0.0.1:8000/v1/describe', sys.stdin.buffer.read(), json)\n"
        "print(u.urlopen(request).read().decode())"
    )
    with running("--network", "none") as container:
        answer = json.loads(container.inside("python", "-c", code, input=json.dumps(document)).stdout)
        (region,) = answer["regions"]
        assert region["id"] == "top"
        assert region["caption"]["text"] and region["tags"] and region["attributes"] and region["categories"]
        assert container.stop() == 0


def test_stop_waits_for_the_request_in_flight() -> None:
    document = {
        "image": {"base64": base64.b64encode((ROOT / "docs/images/scene.png").read_bytes()).decode()},
        "regions": [{"box": [x, y, x + 90, y + 90]} for x in range(0, 128, 16) for y in range(0, 128, 16)],
    }
    answers: list[dict[str, Any]] = []

    def post(port: int) -> None:
        headers = {"content-type": "application/json"}
        url = f"http://127.0.0.1:{port}/v1/describe"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(document).encode(), headers)) as response:
            answers.append(json.loads(response.read()))

    with running("--publish", "127.0.0.1::8000") as container:
        client = threading.Thread(target=post, args=(container.port,))
        client.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not re.search(r"^dynrefer_queue_regions [1-9]", container.get("/metrics")[1], re.MULTILINE):
            assert time.monotonic() < deadline and client.is_alive()
            time.sleep(0.02)
        assert not answers  # it is in flight when the signal comes
        code = container.stop()
        client.join(START_TIMEOUT_S)
        assert code == 0
        assert len(answers[0]["regions"]) == len(document["regions"])


def test_refuses_a_bad_setting() -> None:
    code, lines = refused("--env", "DYNREFER_PORT=eighty")
    assert (code, len(lines)) == (2, 1)
    assert "DYNREFER_PORT 'eighty' is invalid" in lines[0]


def test_refuses_an_unknown_setting() -> None:
    code, lines = refused("--env", "DYNREFER_PROT=8000")
    assert (code, len(lines)) == (2, 1)
    assert "did you mean DYNREFER_PORT?" in lines[0]


def test_names_an_empty_model_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code, lines = refused("--env", "DYNREFER_MODEL=/models", "--volume", f"{tmp_path}:/models:ro")
    assert code == 2
    assert "'/models' is empty or has no config.json" in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_names_a_model_directory_of_another_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    code, lines = refused("--env", "DYNREFER_MODEL=/models", "--volume", f"{tmp_path}:/models:ro")
    assert code == 2
    assert "'/models' may not be read by user 10001" in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_names_a_missing_gpu() -> None:
    code, lines = refused("--env", "DYNREFER_DEVICE=cuda")
    assert code == 2
    assert "no CUDA GPU is visible" in lines[-1]
    assert not any("Traceback" in line for line in lines)
