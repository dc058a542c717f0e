"""What has to hold of all that the chart renders, whatever the values: a list of sentences, empty if nothing is wrong.

Schemas know names and types; this knows the service. `test_chart_mutations.py` breaks the chart to see it noticed.
"""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.server.auth import PROBES
from dynrefer.service.settings import PREFIX, SECRETS, load_settings
from tests.docker.rendered_chart import Document, container, deployment, environment, of_kind

# What the service takes beyond its grace time to end: uvicorn's last connections, the log, the interpreter.
SECONDS_TO_END = 5
NEVER_REACHED = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "127.0.0.1",
    "100.64.0.1",
    "fd00::1",
    "fe80::1",
]

# What is in the Secrets that variables come from.
SECRET_VALUES = {
    "DYNREFER_LABEL_STUDIO_TOKEN": "token",
    "DYNREFER_SHARED_CACHE": "rediss://dynrefer:password@redis:6379/0",
}

Rule = Callable[[Sequence[Document]], Iterator[str]]


def faults(documents: Sequence[Document]) -> list[str]:
    """Every fault of the objects that one set of values gives."""
    return [fault for rule in RULES for fault in rule(documents)]


def image_environment() -> dict[str, str]:
    """What the image sets."""
    from tests.docker.test_container_files import environment_of_image

    return environment_of_image("cpu")


def settings_of(documents: Sequence[Document]) -> Any:
    """The service's settings in the container: the image's variables, then the pod's. Raises SettingsError."""
    given = {name: value or SECRET_VALUES[name] for name, value in environment(container(documents)).items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**image_environment(), **given}.items():
            if name.startswith(PREFIX):
                patch.setenv(name, value)
        return load_settings()


def pods(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Name and specification of every pod."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], document["spec"]
        elif document["kind"] == "Deployment":
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def pods_have_no_rights(documents: Sequence[Document]) -> Iterator[str]:
    """As root, with a token, with links of Services, with a root file system that can be written: none of it."""
    for name, pod in pods(documents):
        yield from faults_of_rights(name, pod)


def faults_of_rights(name: str, pod: Document, token: bool = False) -> Iterator[str]:
    """Those of one pod. token: whether it may have one, for the Kubernetes API."""
    security = pod["securityContext"]
    if pod.get("enableServiceLinks") is not False:
        yield f"{name}: links of Services become variables, and some look like settings"
    if pod.get("automountServiceAccountToken") is not False and not token:
        yield f"{name}: the token of the service account is mounted"
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield f"{name}: may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{name}: no seccomp profile"
    if pod.get("hostNetwork") or pod.get("hostPID") or pod.get("hostIPC"):
        yield f"{name}: sees the node"
    for each in [*pod["containers"], *pod.get("initContainers", [])]:
        own = each["securityContext"]
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: the root file system can be written"
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: may gain privileges"
        if not each.get("resources", {}).get("requests"):
            yield f"{name}: requests no resources, so that it is placed anywhere and ended first"
        if each["image"].endswith(":latest") or (":" not in each["image"].rpartition("/")[2]):
            yield f"{name}: {each['image']} is another image tomorrow"


def probes_ask_what_exists(documents: Sequence[Document]) -> Iterator[str]:
    """Liveness asks the process, readiness the model, each at a path that needs no key and a port that listens."""
    service = container(documents)
    ports = {port["name"]: port["containerPort"] for port in service["ports"]}
    for probe, path in (("startupProbe", "/readyz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        asked = service[probe]["httpGet"]
        if asked["path"] not in PROBES:
            yield f"{probe}: {asked['path']} is no probe of the service"
        elif asked["path"] != path:
            yield f"{probe}: asks {asked['path']}, not {path}"
        if ports.get(asked["port"], asked["port"]) != settings_of(documents).port:
            yield f"{probe}: port {asked['port']} is not the service's"
    if service["livenessProbe"]["failureThreshold"] * service["livenessProbe"]["periodSeconds"] < 30:
        yield "livenessProbe: a pause of some seconds ends the process"


def stops_as_slowly_as_it_drains(documents: Sequence[Document]) -> Iterator[str]:
    """Kubernetes waits for clients to leave, for the longest request, and for the end, before it kills."""
    pod, service, settings = _pod(documents), container(documents), settings_of(documents)
    pause = service.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pause < 5:
        yield "preStop: SIGTERM comes while clients are still sent to the pod"
    if pod["terminationGracePeriodSeconds"] < pause + settings.shutdown_grace_s + SECONDS_TO_END:
        yield "terminationGracePeriodSeconds: the pod is killed while it drains"
    if settings.shutdown_grace_s < settings.request_timeout_s:
        yield "shutdown_grace_s: shorter than a request may take"


def settings_are_the_services(documents: Sequence[Document]) -> Iterator[str]:
    """The service starts with them, on the device and the files that the pod has; no secret is in the open."""
    service, settings = container(documents), settings_of(documents)
    devices = [name for name in service["resources"].get("limits", {}) if name.startswith("nvidia.com/")]
    if (settings.device == "cuda") != bool(devices):
        yield f"device {settings.device}, but {devices or 'no GPU'} in the limits"
    for each in service["env"]:
        if each["name"].removeprefix(PREFIX).lower() in SECRETS and "value" in each:
            yield f"{each['name']}: a secret in plain text"
    mounts = {mount["mountPath"]: mount for mount in service["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in _pod(documents)["volumes"]}
    for mount in mounts.values():
        if mount["name"] not in volumes:
            yield f"{mount['mountPath']}: no volume {mount['name']}"
    for file in (settings.api_keys_file, settings.admin_keys_file):
        mount = mounts.get(str(file.parent)) if file else None
        if file and (mount is None or "secret" not in volumes.get(mount["name"], {}) or not mount.get("readOnly")):
            yield f"{file}: not from a Secret"
    if settings.model != "embedded" and not (settings.model.startswith("/models/") and "/models" in mounts):
        yield f"{settings.model}: not in the models' volume"
    if "/models" in mounts and not mounts["/models"].get("readOnly"):
        yield "/models: can be written"


def network_lets_through_what_is_needed(documents: Sequence[Document]) -> Iterator[str]:
    """In: requests and scrapes. Out: nothing, or what a setting needs; never to the cluster or the cloud's metadata."""
    settings = settings_of(documents)
    for policy in _policies_of_the_service(documents):
        spec = policy["spec"]
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"]:
            yield "NetworkPolicy: does not limit both ways"
        open_ports = {port["port"] for rule in spec["ingress"] for port in rule.get("ports", [{"port": "every port"}])}
        if not open_ports <= {settings.port, settings.metrics_port}:
            yield f"NetworkPolicy: lets {open_ports} in"
        ways_out = spec.get("egress", [])
        needed = (settings.image_url_hosts, settings.otlp_endpoint, settings.label_studio_url, settings.shared_cache)
        if ways_out and not any(needed):
            yield "NetworkPolicy: a way out that no setting needs"
        for rule in ways_out:
            if not rule.get("to") or not rule.get("ports"):
                yield "NetworkPolicy: a way out to everywhere"
            for block in (peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer):
                yield from (
                    f"NetworkPolicy: {address} is within reach" for address in NEVER_REACHED if _is_in(address, block)
                )


def _policies_of_the_service(documents: Sequence[Document]) -> list[Document]:
    """All but the one of the test's pod."""
    tested = [pod["metadata"]["labels"] for pod in of_kind(documents, "Pod")]
    policies = of_kind(documents, "NetworkPolicy")
    selectors = [policy["spec"]["podSelector"]["matchLabels"] for policy in policies]
    only_test = [
        selector.get("app.kubernetes.io/component") == "test"
        and any(selector.items() <= each.items() for each in tested)
        for selector in selectors
    ]
    return [policy for policy, skipped in zip(policies, only_test, strict=True) if not skipped]


def _is_in(address: str, block: Document) -> bool:
    """Whether an address is in an ipBlock."""
    given = ipaddress.ip_address(address)
    within, *excepted = (ipaddress.ip_network(each) for each in [block["cidr"], *block.get("except", [])])
    return given in within and not any(given in each for each in excepted)


def selectors_find_the_pods(documents: Sequence[Document]) -> Iterator[str]:
    """Of the Service, the budget, the policy: the pods of the service, and not the test's."""
    labels = deployment(documents)["spec"]["template"]["metadata"]["labels"]
    others = [pod["metadata"]["labels"] for pod in of_kind(documents, "Pod")]
    selectors = {
        "Deployment": [each["spec"]["selector"]["matchLabels"] for each in of_kind(documents, "Deployment")],
        "Service": [each["spec"]["selector"] for each in of_kind(documents, "Service")],
        "PodDisruptionBudget": [
            each["spec"]["selector"]["matchLabels"] for each in of_kind(documents, "PodDisruptionBudget")
        ],
        "NetworkPolicy": [each["spec"]["podSelector"]["matchLabels"] for each in _policies_of_the_service(documents)],
    }
    for kind, each in selectors.items():
        for selector in each:
            if not selector.items() <= labels.items():
                yield f"{kind}: finds no pod of the service"
            if any(selector.items() <= other.items() for other in others):
                yield f"{kind}: finds the test's pod"
    ports = {port["name"] for port in container(documents)["ports"]}
    for service in of_kind(documents, "Service"):
        if not {port["targetPort"] for port in service["spec"]["ports"]} <= ports:
            yield "Service: leads to a port that the pod does not have"


def scaling_follows_a_metric_that_exists(documents: Sequence[Document]) -> Iterator[str]:
    """And nothing else sets the number of pods then."""
    scalers = of_kind(documents, "HorizontalPodAutoscaler")
    if bool(scalers) == ("replicas" in deployment(documents)["spec"]):
        yield "Deployment: its number of pods is set twice, or not at all"
    gauges = {family.name for family in Metrics().registry.collect() if family.type == "gauge"}
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"]["name"] != deployment(documents)["metadata"]["name"]:
            yield "HorizontalPodAutoscaler: scales something else"
        for metric in scaler["spec"]["metrics"]:
            pods_metric = metric["pods"]
            if pods_metric["metric"]["name"] not in gauges:
                yield f"HorizontalPodAutoscaler: the service has no gauge {pods_metric['metric']['name']}"
            if int(pods_metric["target"]["averageValue"]) >= settings_of(documents).max_queue_regions:
                yield "HorizontalPodAutoscaler: the queue never gets so long"


def nodes_can_be_drained(documents: Sequence[Document]) -> Iterator[str]:
    """However few pods there are, and whether they are ready or not."""
    for budget in of_kind(documents, "PodDisruptionBudget"):
        if budget["spec"].get("maxUnavailable") in (None, 0, "0%"):
            yield "PodDisruptionBudget: a single pod keeps its node from being drained"
        if budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield "PodDisruptionBudget: a pod that never gets ready keeps its node from being drained"


def metrics_are_scraped_without_a_key(documents: Sequence[Document]) -> Iterator[str]:
    """Prometheus finds the Service of the metrics, which is not the one that clients reach."""
    settings = settings_of(documents)
    if settings.metrics_port not in {port["containerPort"] for port in container(documents)["ports"]}:
        yield "metrics: on a port that the pod does not name"
    for monitor in of_kind(documents, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [each for each in of_kind(documents, "Service") if wanted.items() <= each["metadata"]["labels"].items()]
        if len(found) != 1:
            yield f"ServiceMonitor: finds {len(found)} Services"
            continue
        ports = {port["name"]: port["port"] for port in found[0]["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if ports.get(endpoint["port"]) != settings.metrics_port or endpoint["path"] != "/metrics":
                yield "ServiceMonitor: scrapes where there are no metrics"
    for service in of_kind(documents, "Service"):
        ports = [port["targetPort"] for port in service["spec"]["ports"]]
        if "http" in ports and "metrics" in ports:
            yield "Service: clients reach the metrics, which need no key"


def _pod(documents: Sequence[Document]) -> Document:
    return deployment(documents)["spec"]["template"]["spec"]  # type: ignore[no-any-return]


RULES: tuple[Rule, ...] = (
    pods_have_no_rights,
    probes_ask_what_exists,
    stops_as_slowly_as_it_drains,
    settings_are_the_services,
    network_lets_through_what_is_needed,
    selectors_find_the_pods,
    scaling_follows_a_metric_that_exists,
    nodes_can_be_drained,
    metrics_are_scraped_without_a_key,
)
