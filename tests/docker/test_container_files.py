"""Dockerfile, compose files, dashboard and locks, without building anything: they agree with each other and with the
service. `make image-test` builds the image and runs it.
"""

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dynrefer.service.observability.metrics import STAGES, Metrics, outcome_of
from dynrefer.service.settings import PREFIX, Settings, load_settings
from tests.docker.scripts import docker_script
from tests.repository import ROOT
from tests.service.integrations.label_studio.program import REACHES_PRIVATE_ADDRESSES

DOCKER = ROOT / "docker"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana/dashboards/dynrefer.json").read_text(encoding="utf-8"))
LOCK = (DOCKER / "requirements.txt").read_text(encoding="utf-8")
CUDA_LOCK = (DOCKER / "requirements-cuda.txt").read_text(encoding="utf-8")
RAY_LOCK = (DOCKER / "requirements-ray.txt").read_text(encoding="utf-8")
PLAIN, LOCKED = (
    dict(re.findall(r"^([a-z0-9-]+)===?(\S+)", text, re.MULTILINE))
    for text in (LOCK + CUDA_LOCK, LOCK + CUDA_LOCK + RAY_LOCK)
)


def environment_of_image(variant: str) -> dict[str, str]:
    """What the final image sets, of the given variant."""
    final = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[-1]
    lines = re.findall(r"^ENV ((?:.*\\\n)*.*)$", final, re.MULTILINE)
    pairs = " ".join(lines).replace("\\\n", " ").replace("${VARIANT}", variant).split()
    return dict(pair.split("=", 1) for pair in pairs)


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


# The image


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_image_sets_settings_that_exist(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of_image(variant).items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.host, settings.port, settings.model, settings.device) == ("0.0.0.0", 8000, "embedded", variant)


def test_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def test_base_is_an_argument_and_pinned() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert all(
        stage.startswith(("${BASE}", "build", "serve-")) for stage in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    )


def test_everything_that_is_installed_is_hashed() -> None:
    """But for our own code, and the CPU build of torch, whose hash depends on the index."""
    commands = re.split(r"&&|\|\||;", DOCKERFILE.replace("\\\n", " ").replace("\n", ";"))
    installs = [each.split() for each in commands if re.search(r"\bpip .*\binstall\b", each) and "#" not in each]
    unhashed = {
        words[words.index("-r") + 1] if "-r" in words else words[-1]
        for words in installs
        if "--require-hashes" not in words
    }
    assert len(installs) == 7 and unhashed == {".", "requirements-cpu.txt"}


@pytest.mark.parametrize("name", ["uv", "tools"])
def test_programs_of_the_build_are_locked(name: str) -> None:
    script, lock = docker_script("lock"), (DOCKER / f"requirements-{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries) and "://" not in lock
    for requirement in {"uv": script.UV, "tools": script.TOOLS}[name]:
        assert any(entry.startswith(f"{requirement} ") for entry in entries), "run make lock"


def test_compose_builds_on_the_same_base() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert COMPOSE["services"]["dynrefer"]["build"]["args"] == {"BASE": f"${{BASE_IMAGE:-{base}}}"}


def test_context_holds_what_is_copied() -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    ]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        for each in ("cpu", "cuda"):
            path = name.replace("${VARIANT}", each)
            assert (ROOT / path).exists()
            assert any(Path(path).match(pattern) for pattern in allowed), f"{path} is not in the build's context"


def test_context_leaves_the_workbench_out() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[0] == "*" and not [line for line in ignore if "workbench" in line]
    folders = re.findall(r"^COPY (?!--from|docker/)(\w+) \1$", DOCKERFILE, re.MULTILINE)
    assert folders == ["dynrefer", "model", "service"]


class Probe(http.server.BaseHTTPRequestHandler):
    """Answers /readyz with `status`."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def answering(status: int) -> Iterator[int]:
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Fixed", (Probe,), {"status": status}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_healthcheck_requests_readyz(status: int, healthy: bool) -> None:
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    program, *arguments = json.loads(command)
    assert program == "python"
    with answering(status) as port:
        done = subprocess.run(
            [sys.executable, *arguments], env={"DYNREFER_PORT": str(port)}, capture_output=True, check=False
        )
    assert (done.returncode == 0) is healthy


# The locks


@pytest.mark.parametrize(
    ("extra", "locked"), [("ray", LOCKED), *((extra, PLAIN) for extra in docker_script("lock").EXTRAS)]
)
def test_lock_holds_every_dependency(extra: str, locked: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in project["dependencies"] + project["optional-dependencies"][extra]:
        needed = Requirement(text)
        if needed.name == project["name"]:  # an extra that another one needs
            continue
        name = canonicalize_name(needed.name)
        assert name in locked, f"{name} is in no lock of docker/: run make lock"
        assert needed.specifier.contains(locked[name]), f"{name} {locked[name]} is too old: run make lock"


def test_ray_is_added_to_an_image_that_stays_as_it_is() -> None:
    names = [re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE) for text in (RAY_LOCK, LOCK + CUDA_LOCK)]
    assert "ray" in names[0] and not {*names[0]} & {*names[1]}


def test_lock_agrees_with_what_was_tested() -> None:
    pinned = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    tested = {canonicalize_name(name): version for name, version in pinned}
    differing = {name for name, version in LOCKED.items() if tested.get(name, version) != version}
    assert not differing, "run make lock"
    assert (DOCKER / "requirements-cpu.txt").read_text(encoding="utf-8").endswith(f"\ntorch=={tested['torch']}+cpu\n")


def test_lock_has_hashes_and_no_addresses() -> None:
    for lock in (LOCK, CUDA_LOCK, RAY_LOCK):
        entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
        assert entries and all("--hash=sha256:" in entry for entry in entries)
        assert "://" not in lock


def test_what_ray_changes_of_the_plain_image_is_an_error() -> None:
    plain, with_ray = ["numpy==2.0\n"], ["numpy==2.0\n", "ray==2.60.0\n"]
    assert docker_script("lock").added(plain, with_ray).splitlines()[1:] == ["ray==2.60.0"]
    with pytest.raises(SystemExit, match="other versions of numpy==2.1"):
        docker_script("lock").added(["numpy==2.1\n"], with_ray)


def test_lock_is_split_by_what_only_cuda_needs() -> None:
    lock = [f"{name} \\\n    --hash=sha256:0\n" for name in ("numpy==2.0", "nvidia-nccl-cu13==2.1", "torch==2.13.0")]
    shared, cuda, cpu = docker_script("lock").split(lock)
    assert re.findall(r"^\w\S+", shared, re.M) == ["numpy==2.0"]
    assert re.findall(r"^\w\S+", cuda, re.M) == ["nvidia-nccl-cu13==2.1", "torch===2.13.0"]
    assert re.findall(r"^\w\S+", cpu, re.M) == ["torch==2.13.0+cpu"]


# Compose


def test_compose_drops_all_privileges() -> None:
    service = COMPOSE["services"]["dynrefer"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_publishes_on_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][name]["ports"])


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_monitoring_is_optional_and_pinned(name: str) -> None:
    assert COMPOSE["services"][name]["profiles"] == ["monitoring"]
    image = rf"\$\{{{name.upper()}_IMAGE:-[a-z]+/[a-z]+:v?\d+\.\d+\.\d+\}}"
    assert re.fullmatch(image, COMPOSE["services"][name]["image"])


def test_compose_mounts_what_exists() -> None:
    mounts = [mount.split(":")[0] for each in COMPOSE["services"].values() for mount in each["volumes"]]
    for source in mounts:
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_compose_names_settings_that_exist() -> None:
    names = [name for name in COMPOSE["services"]["dynrefer"]["environment"] if name.startswith(PREFIX)]
    assert names and all(name.removeprefix(PREFIX).lower() in Settings.model_fields for name in names)


def test_compose_waits_longer_than_the_service_drains() -> None:
    grace = int(COMPOSE["services"]["dynrefer"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["shutdown_grace_s"].default


def test_gpu_file_changes_variant_and_device_only() -> None:
    overlay = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text(encoding="utf-8"))["services"]
    assert set(overlay) == {"dynrefer"}
    assert overlay["dynrefer"]["build"]["args"] == {"VARIANT": "cuda"}
    (device,) = overlay["dynrefer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_label_studio_file_has_the_services_settings_and_what_label_studio_needs() -> None:
    document = yaml.safe_load((DOCKER / "compose.label-studio.yaml").read_text(encoding="utf-8"))
    service, program = document["services"]["dynrefer"], document["services"]["label-studio"]
    own = {name: value for name, value in service.items() if name not in ("environment", "volumes")}
    assert own == {name: COMPOSE["services"]["dynrefer"][name] for name in own}
    names = [name for name in service["environment"] if name.startswith(PREFIX)]
    assert all(name.removeprefix(PREFIX).lower() in Settings.model_fields for name in names)
    assert REACHES_PRIVATE_ADDRESSES.items() <= program["environment"].items()
    assert program["ports"] == ["127.0.0.1:8080:8080"]
    requirements = (ROOT / "tests/service/integrations/requirements/label-studio.txt").read_text(encoding="utf-8")
    version = requirements.strip().removeprefix("label-studio==")
    assert program["image"] == f"${{LABEL_STUDIO_IMAGE:-heartexlabs/label-studio:{version}}}"


def test_corrections_of_label_studio_are_in_a_volume_that_the_service_may_write() -> None:
    """A new volume gets the owner of the image's directory; a missing directory of the host is made as root."""
    document = yaml.safe_load((DOCKER / "compose.label-studio.yaml").read_text(encoding="utf-8"))
    service = document["services"]["dynrefer"]
    folder = service["environment"]["DYNREFER_LABEL_STUDIO_CORRECTIONS"]
    (source,) = [mount.split(":")[0] for mount in service["volumes"] if mount.split(":")[1:] == [folder]]
    assert source in document["volumes"]
    (made,) = re.findall(r"install --directory --owner=dynrefer --group=dynrefer (.+)$", DOCKERFILE, re.MULTILINE)
    assert folder in made.split()


def test_a_tuned_model_can_serve_beside_label_studio() -> None:
    document = yaml.safe_load((DOCKER / "compose.label-studio.yaml").read_text(encoding="utf-8"))
    service = document["services"]["dynrefer"]
    assert service["ports"] == COMPOSE["services"]["dynrefer"]["ports"]  # where `dynrefer reload` asks
    assert {"DYNREFER_ADMIN_KEYS"} <= set(service["environment"])
    assert f"./models:{service['environment']['DYNREFER_MODELS_DIR']}:ro" in service["volumes"]


def test_prometheus_scrapes_the_service() -> None:
    document = yaml.safe_load((DOCKER / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = document["scrape_configs"]
    port = Settings.model_fields["port"].default
    assert "DYNREFER_PORT" not in environment_of_image("cpu")  # a platform's PORT counts then
    assert (job["job_name"], job["metrics_path"]) == ("dynrefer", "/metrics")
    assert job["static_configs"] == [{"targets": [f"dynrefer:{port}"]}]


# The dashboard


def exported() -> set[str]:
    """Every series name that the service can export."""
    names = {"up"}
    metrics = Metrics()
    metrics.watch_caches(dict)
    for family in metrics.registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + ending for ending in endings}
    return names


def test_dashboard_queries_metrics_that_are_exported() -> None:
    queried = {name for each in expressions() for name in re.findall(r"\b((?:dynrefer|process)_[a-z_]+|up)\b", each)}
    assert queried - exported() == set()


def test_dashboard_knows_the_outcomes_and_stages() -> None:
    outcomes = {outcome_of(status) for status in range(100, 600)}
    for each in re.findall(r'outcome=~"([^"]+)"', "".join(expressions())):
        assert set(each.split("|")) <= outcomes
    (described,) = [panel["description"] for panel in DASHBOARD["panels"] if panel["title"] == "Requests by outcome"]
    assert all(outcome in described for outcome in outcomes)
    assert STAGES  # shown by label, whatever they are


def test_dashboard_reads_the_provisioned_source() -> None:
    provisioning = DOCKER / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    uids = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert uids == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/dynrefer.yaml").read_text(encoding="utf-8"))["providers"]
    mounts = [mount.split(":")[1] for mount in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts


def test_dashboard_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
