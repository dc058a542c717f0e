"""The Helm chart, rendered with every set of values in its folder `ci`, against Kubernetes' published schemas and
against the service. No cluster is needed, and none was ever asked.
"""

import re
import shutil
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions
from packaging.version import Version

from dynrefer.service.app import create_app
from dynrefer.service.server.auth import PROBES
from dynrefer.service.settings import Settings
from tests.docker.chart_faults import faults, settings_of
from tests.docker.rendered_chart import (
    CHART,
    KUBERNETES,
    VALUES,
    Document,
    container,
    deployment,
    environment,
    helm,
    of_kind,
    refusal,
    render,
)
from tests.repository import ROOT

DEFAULT, EVERYTHING, GPU, KEYS, OPEN = VALUES
ABOUT: dict[str, object] = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
OLDEST = Version("1.30.0")
IMAGE_VOLUMES = Version("1.33.0")  # before, model.image is refused
SUPPORTED = sorted({version for version in all_versions() if Version(version) >= OLDEST}, key=Version)
# Of operators: Kubernetes has no schema of them.
FOREIGN = {"ServiceMonitor"}


@pytest.fixture(scope="module", params=VALUES, ids=lambda path: path.stem.removesuffix("-values"))
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(request.param)


def test_sets_of_values_are_those_named_here() -> None:
    names = [path.name.removesuffix("-values.yaml") for path in VALUES]
    assert names == ["default", "everything", "gpu", "keys", "open"]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_lint_is_silent(values: Path) -> None:
    done = helm("lint", "--strict", f"--kube-version={KUBERNETES}", CHART, f"--values={values}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_wrong_with_what_is_rendered(documents: list[Document]) -> None:
    assert faults(documents) == []


def test_chart_says_which_kubernetes_it_needs() -> None:
    assert ABOUT["kubeVersion"] == f">={OLDEST}-0"
    assert "incompatible with Kubernetes v1.29" in refusal(kubernetes="1.29.0")
    assert SUPPORTED[0] == str(OLDEST) and len(SUPPORTED) >= 8


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", SUPPORTED)
def test_kubernetes_knows_every_field(values: Path, version: str) -> None:
    if values == KEYS and Version(version) < IMAGE_VOLUMES:
        assert "model.image needs Kubernetes 1.33" in refusal(values, kubernetes=version)
        return
    for document in render(values, kubernetes=version):
        if document["kind"] not in FOREIGN:
            kubernetes_validate.validate(document, version, strict=True)


def test_schemas_refuse_what_kubernetes_would_ignore() -> None:
    """Else the test above could not fail."""
    broken = deployment(render(DEFAULT))
    broken["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, SUPPORTED[-1], strict=True)


def test_version_is_the_services() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ABOUT["appVersion"] == project["version"]
    assert container(render(DEFAULT))["image"] == f"dynrefer:{project['version']}"
    assert container(render(GPU))["image"] == f"dynrefer:{project['version']}-cuda"


def test_probes_are_routes() -> None:
    routes = set(create_app(Settings()).openapi()["paths"])
    probes = [
        container(render(DEFAULT))[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    ]
    assert set(probes) <= routes & PROBES


def test_defaults_that_the_templates_repeat_are_the_services() -> None:
    service = settings_of(render(DEFAULT))
    fields = Settings.model_fields
    assert service.shutdown_grace_s == fields["request_timeout_s"].default
    limit = fields["max_queue_regions"].default
    said = refusal(settings=["autoscaling.enabled=true", f"autoscaling.queueRegions={limit}"])
    assert f"must be below settings.max_queue_regions ({limit})" in said
    render(settings=["autoscaling.enabled=true", f"autoscaling.queueRegions={limit - 1}"])


def test_settings_reach_the_service_as_they_were_given() -> None:
    service = settings_of(render(EVERYTHING))
    assert service.max_buffered_bytes == 10_737_418_240  # a float to Helm
    assert (service.request_timeout_s, service.batch_wait_ms, service.shutdown_grace_s) == (90.5, 0.5, 91)
    assert service.integrations == ("label-studio", "openai")
    assert service.image_url_hosts == ("images.example.org", "photos.example.org")
    assert settings_of(render(settings=["settings.cuda_graphs=false"])).cuda_graphs is False


def test_grace_time_that_is_given_is_kept() -> None:
    documents = render(settings=["settings.shutdown_grace_s=120", "drain.preStopSeconds=15"])
    assert settings_of(documents).shutdown_grace_s == 120
    assert deployment(documents)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 145


@pytest.mark.parametrize(
    ("limit", "threads"), [("2500m", "2"), ("500m", "1"), ("12", "12"), ("1.5", "1")], ids=lambda text: text
)
def test_threads_are_those_of_the_pod_and_not_the_nodes(limit: str, threads: str) -> None:
    variables = environment(container(render(settings=[f"resources.limits.cpu={limit}"])))
    assert variables["OMP_NUM_THREADS"] == threads
    assert "DYNREFER_WORKER_PROCESSES" not in variables


def test_image_workers_beside_a_gpu_are_as_many_as_the_pod_has_cores_for() -> None:
    assert environment(container(render(GPU)))["DYNREFER_WORKER_PROCESSES"] == "6"
    assert environment(container(render(EVERYTHING)))["DYNREFER_WORKER_PROCESSES"] == "10"


def test_without_a_limit_the_service_chooses() -> None:
    assert "OMP_NUM_THREADS" not in environment(container(render(OPEN)))


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-3g.40gb"])
def test_a_pod_has_one_gpu(resource: str) -> None:
    documents = render(GPU, settings=[f"gpu.resource={resource.replace('.', chr(92) + '.')}"])
    assert container(documents)["resources"]["limits"][resource] == 1
    tolerated = deployment(documents)["spec"]["template"]["spec"]["tolerations"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerated


def test_without_settings_that_need_it_nothing_gets_out() -> None:
    policy, _ = of_kind(render(DEFAULT), "NetworkPolicy")
    assert "Egress" in policy["spec"]["policyTypes"] and "egress" not in policy["spec"]


def test_image_urls_open_names_and_https_alone() -> None:
    policy, _ = of_kind(render(settings=["settings.image_url_hosts={images.example.org}"]), "NetworkPolicy")
    assert [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]] == [[53, 53], [443]]


def test_keys_are_a_file_from_a_secret_and_other_keys_are_other_pods() -> None:
    first, second = render(KEYS), render(KEYS, settings=["apiKeys.lines={eve sha256:" + "a" * 64 + "}"])
    (secret,) = of_kind(first, "Secret")
    assert secret["stringData"]["keys"].splitlines()[1].startswith("bob.2 sha256:")
    assert secret["metadata"]["name"] == "demo-dynrefer-api-keys"
    checksums = [
        deployment(each)["spec"]["template"]["metadata"]["annotations"]["checksum/api-keys"] for each in (first, second)
    ]
    assert checksums[0] != checksums[1]
    assert of_kind(render(EVERYTHING), "Secret") == []


def test_lines_of_keys_are_those_that_the_command_makes(tmp_path: Path) -> None:
    from dynrefer.service.server.auth import new_key

    _, line = new_key("alice")
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"apiKeys": {"lines": [line]}}), encoding="utf-8")
    (secret,) = of_kind(render(values), "Secret")
    assert secret["stringData"]["keys"] == line + "\n"


def test_upgrade_starts_the_new_pod_first() -> None:
    strategy = deployment(render(DEFAULT))["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_model_of_a_volume_is_mounted_for_reading() -> None:
    claimed = deployment(render(GPU))["spec"]["template"]["spec"]["volumes"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}} in claimed
    image = {"reference": "registry.example.org/models/dynrefer-vg:1", "pullPolicy": "IfNotPresent"}
    assert {"name": "models", "image": image} in deployment(render(KEYS))["spec"]["template"]["spec"]["volumes"]


def test_names_fit_and_two_releases_do_not_meet() -> None:
    first, second = (
        {each["metadata"]["name"] for each in render(settings=[f"fullnameOverride={name}"])} for name in "ab"
    )
    assert not first & second
    (name,) = {
        each["metadata"]["name"]
        for each in render(settings=["fullnameOverride=" + "x" * 53])
        if each["kind"] == "Service"
    }
    assert len(f"{name}-metrics") <= 63


@pytest.mark.parametrize(
    ("values", "words"), [(DEFAULT, "no API keys"), (EVERYTHING, "dynrefer_queue_regions"), (OPEN, "nothing limits")]
)
def test_notes_say_what_is_open(values: Path, words: str, tmp_path: Path) -> None:
    """Helm shows them only after an installation: rendered as an object of a copy instead."""
    chart = tmp_path / "dynrefer"
    shutil.copytree(CHART, chart)
    shutil.copy(chart / "templates/NOTES.txt", chart / "files")
    (chart / "templates/notes.yaml").write_text(
        'kind: Notes\ntext: {{ tpl (.Files.Get "files/NOTES.txt") . | quote }}\n', encoding="utf-8"
    )
    (notes,) = of_kind(render(values, chart=chart), "Notes")
    assert words in notes["text"] and "helm --namespace default test demo" in notes["text"]


def test_rule_of_prometheus_adapter_gives_the_metric_that_scaling_follows() -> None:
    values = yaml.safe_load((CHART.parent / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    (scaler,) = of_kind(render(EVERYTHING), "HorizontalPodAutoscaler")
    (followed,) = [metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]]
    assert rule["name"]["as"] == followed and re.fullmatch(rule["name"]["matches"], followed)
    assert rule["seriesQuery"].partition("{")[0] == followed
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}
