"""docker/ray: the application's file against Ray's own schema, the RayService against KubeRay's and Kubernetes'
schemas, and both against the service. No cluster is needed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from dynrefer.service.settings import Settings
from tests.docker.chart_faults import faults_of_rights
from tests.docker.make_rayservice_schema import SCHEMA
from tests.docker.test_chart import SUPPORTED
from tests.repository import ROOT

SERVE_FILE = ROOT / "docker/ray/serve.yaml"
SERVE: dict[str, Any] = yaml.safe_load(SERVE_FILE.read_text(encoding="utf-8"))
DOCUMENTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "docker/ray/rayservice.yaml").read_text(encoding="utf-8"))
)
SERVICE, *POLICIES = DOCUMENTS
CLUSTER: dict[str, Any] = SERVICE["spec"]["rayClusterConfig"]
(WORKERS,) = CLUSTER["workerGroupSpecs"]
(APPLICATION,) = SERVE["applications"]
# Of `application.build`, beside settings.
OTHER_ARGUMENTS = {"edges"}
# Arguments: the file of the application, its import path.
IMPORTS = """
import importlib, sys, yaml
from ray.serve.schema import ServeDeploySchema
document = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
ServeDeploySchema.model_validate(document)
module, _, name = sys.argv[2].partition(":")
application = getattr(importlib.import_module(module), name)(document["applications"][0]["args"])
print(type(application).__name__)
"""
# Where the service may write: /tmp (Ray's sessions) and the object store.
WRITABLE = {"/tmp", "/dev/shm"}


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "head", CLUSTER["headGroupSpec"]["template"]
    yield "worker", WORKERS["template"]


def test_kuberay_knows_every_field() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(SERVICE["spec"])] == []
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("ray.io/v1", "RayService")


@pytest.mark.parametrize("path", [["upgradeStrateg"], ["rayClusterConfig", "authOptions", "mod"]])
def test_schema_refuses_what_kuberay_does_not_know(path: list[str]) -> None:
    """Else the test above could not fail."""
    schema, spec = json.loads(SCHEMA.read_text(encoding="utf-8")), json.loads(json.dumps(SERVICE["spec"]))
    inner = spec
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = "token"
    assert list(Draft202012Validator(schema).iter_errors(spec))


@pytest.mark.parametrize("kubernetes", [SUPPORTED[0], SUPPORTED[-1]])
def test_kubernetes_knows_every_field_of_pods_and_policies(kubernetes: str) -> None:
    for name, template in templates():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **template["metadata"]},
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, kubernetes, strict=True)
    for policy in POLICIES:
        kubernetes_validate.validate(policy, kubernetes, strict=True)


def test_application_is_the_one_of_serve_yaml() -> None:
    in_kubernetes = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    assert SERVE["http_options"]["host"] == "127.0.0.1", "no policy keeps strangers out"
    assert in_kubernetes == {**SERVE, "http_options": {**SERVE["http_options"], "host": "0.0.0.0"}}


def test_ray_accepts_the_application() -> None:
    """And the builder its arguments, without a cluster. In a process of its own, because Ray keeps the variables that
    it finds when it is first imported."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(SERVE_FILE), APPLICATION["import_path"]],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["Application"]), done.stderr


def test_arguments_are_settings() -> None:
    given = {name: value for name, value in APPLICATION["args"].items() if name not in OTHER_ARGUMENTS}
    settings = Settings(**{**given, "engine": "ray"})
    assert settings.max_replicas and settings.device == "cuda" and settings.replica_gpus == 1
    # The proxy's answer would take the place of the service's own 504.
    assert SERVE["http_options"]["request_timeout_s"] > settings.request_timeout_s


def test_version_of_ray_is_the_one_that_is_tested() -> None:
    assert CLUSTER["rayVersion"] == version("ray")


def test_pods_have_no_rights() -> None:
    for name, template in templates():
        assert list(faults_of_rights(name, template["spec"], token=name == "head")) == []
    own = CLUSTER["autoscalerOptions"]["securityContext"]
    assert own["readOnlyRootFilesystem"] and own["capabilities"] == {"drop": ["ALL"]}
    assert own["allowPrivilegeEscalation"] is False


def test_a_token_is_needed_and_nothing_is_reported() -> None:
    assert CLUSTER["authOptions"]["mode"] == "token"
    for _, template in templates():
        variables = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
        assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
        assert variables["HOME"] in WRITABLE  # Ray keeps files there


def test_what_is_written_has_a_bounded_volume() -> None:
    for _, template in templates():
        (container,) = template["spec"]["containers"]
        volumes = {each["name"]: each for each in template["spec"]["volumes"]}
        mounts = {each["mountPath"]: volumes[each["name"]]["emptyDir"] for each in container["volumeMounts"]}
        assert set(mounts) == WRITABLE and all("sizeLimit" in each for each in mounts.values())
        assert mounts["/dev/shm"]["medium"] == "Memory"


def test_each_worker_has_what_a_replica_takes_and_there_are_as_many_as_replicas() -> None:
    arguments, limits = APPLICATION["args"], WORKERS["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == arguments["replica_gpus"]
    assert (WORKERS["minReplicas"], WORKERS["maxReplicas"]) == (arguments["min_replicas"], arguments["max_replicas"])
    # With all edges on the first worker, its replica still fits, and the edges' image workers beside it.
    cores = arguments["replica_cpus"] + arguments["edges"] * max(1, arguments["worker_processes"])
    assert cores <= float(limits["cpu"])


def test_nothing_of_the_service_runs_on_the_head() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert SERVICE["spec"]["excludeHeadPodFromServeSvc"] is True


def test_old_cluster_stays_for_the_requests_it_has() -> None:
    settings = Settings()
    assert SERVICE["spec"]["rayClusterDeletionDelaySeconds"] > settings.request_timeout_s
    for _, template in templates():
        assert template["spec"]["terminationGracePeriodSeconds"] > settings.request_timeout_s


def test_probe_of_workers_needs_no_program_of_the_image() -> None:
    """KubeRay's own, for workers of a RayService, asks with wget."""
    (container,) = WORKERS["template"]["spec"]["containers"]
    asked = container["readinessProbe"]["httpGet"]
    assert asked == {"path": "/-/healthz", "port": SERVE["http_options"]["port"]}


def test_policies_select_the_pods_and_let_only_the_head_out() -> None:
    labels = {name: template["metadata"]["labels"] for name, template in templates()}
    everything, head = (policy["spec"]["podSelector"]["matchLabels"] for policy in POLICIES)
    assert all(everything.items() <= each.items() for each in labels.values())
    assert head.items() <= labels["head"].items() and not head.items() <= labels["worker"].items()
    ways_out = POLICIES[0]["spec"]["egress"]
    assert all("to" in rule for rule in ways_out) and sorted(POLICIES[0]["spec"]["policyTypes"]) == [
        "Egress",
        "Ingress",
    ]
    open_to_all = [rule["ports"] for rule in POLICIES[0]["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [[{"port": SERVE["http_options"]["port"], "protocol": "TCP"}]]
