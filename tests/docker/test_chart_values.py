"""What the chart accepts: schema and table are those of the code, and a wrong value gets a sentence with the fix."""

import json
import re
from pathlib import Path

import pytest
import yaml

from dynrefer.service.settings import SECRETS, Settings
from tests.docker.rendered_chart import refusal, render
from tests.docker.update_chart import ELSEWHERE, OF_RAY, PAGE, SCHEMA, described_values, files, refused


def test_generated_files_are_up_to_date() -> None:
    stale = [path.name for path, text in files().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run python -m tests.docker.update_chart"


def test_every_setting_is_accepted_or_refused_in_a_sentence() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["settings"]
    assert set(schema["properties"]) == set(Settings.model_fields) and schema["additionalProperties"] is False
    assert set(ELSEWHERE) <= set(Settings.model_fields)
    assert set(refused()) >= set(SECRETS) | (set(OF_RAY) & set(Settings.model_fields))


@pytest.mark.parametrize("name", refused())
def test_a_setting_that_the_chart_makes_is_refused_with_what_to_set_instead(name: str) -> None:
    assert f"settings.{name} is not set here: {refused()[name]}." in refusal(settings=[f"settings.{name}=x"])


def test_every_value_is_described() -> None:
    described = {".".join(path) for path, _ in described_values()}
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    leaves = set(_leaves(schema["properties"], "")) - {"global"}
    assert leaves == described


def _leaves(properties: dict[str, dict[str, object]], before: str) -> list[str]:
    found: list[str] = []
    for name, each in properties.items():
        inner = each.get("properties") if name not in ("settings", "secretSettings", "resources") else None
        found += _leaves(inner, f"{before}{name}.") if isinstance(inner, dict) else [before + name]
    return found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("replica=2", "Additional property replica is not allowed"),
        ("settings.queue=2", "settings: Additional property queue is not allowed"),
        ("settings.max_queue_regions=0", "settings.max_queue_regions: Must be greater than or equal to 1"),
        (
            "settings.max_queue_regions=many",
            "settings.max_queue_regions: Invalid type. Expected: integer, given: string",
        ),
        ("settings.request_timeout_s=soon", "settings.request_timeout_s: Does not match pattern"),
        ("settings.log_format=xml", 'settings.log_format must be one of the following: "text", "json"'),
        ("settings.integrations={kubeflow}", "settings.integrations.0 must be one of the following"),
        ("settings.image_url_hosts={a.org\\,b.org}", "settings.image_url_hosts.0: Does not match pattern"),
        ("secretSettings.port.name=x", "secretSettings: Additional property port is not allowed"),
        ("secretSettings.label_studio_token.name=x", "secretSettings.label_studio_token: key is required"),
        ("image.tag=a b", "image.tag: Does not match pattern"),
        ("image.digest=sha256:12", "image.digest: Does not match pattern"),
        ("fullnameOverride=9lives", "fullnameOverride: Does not match pattern"),
        ("model.name=../etc", "model.name: Does not match pattern"),
        ("model.name=dynrefer-vg", "model.name is dynrefer-vg, which is in no volume: set model.claim or model.image."),
        ("model.claim=a,model.image=b", "model.claim and model.image are both set"),
        ("apiKeys.lines={alice}", "apiKeys.lines.0: Does not match pattern"),
        (f"apiKeys.existingSecret=a,apiKeys.lines={{alice sha256:{'0' * 64}}}", "are both set: give the keys once"),
        ("adminKeys.existingSecret=a,replicas=2", "a switch of models reaches one pod only"),
        ("adminKeys.existingSecret=a,autoscaling.enabled=true", "a switch of models reaches one pod only"),
        ("drain.preStopSeconds=0", "drain.preStopSeconds: Must be greater than or equal to 1"),
        ("updateStrategy.maxSurge=0", "are both 0: no pod could be replaced"),
        ("updateStrategy.maxSurge=some", "updateStrategy.maxSurge: Must validate at least one schema (anyOf)"),
        ("autoscaling.enabled=true,autoscaling.minReplicas=11", "autoscaling.minReplicas (11) is above"),
        ("autoscaling.enabled=true,settings.max_queue_regions=16,settings.max_regions=8", "must be below settings.max"),
        ("metrics.port=8000", "metrics.port is 8000, on which the service listens"),
        ("ingress.enabled=true", "ingress.host is missing"),
        ("settings.otlp_endpoint=http://collector:4318", "let it through with networkPolicy.egress"),
        ("settings.shared_cache=redis://redis:6379/0", "let it through with networkPolicy.egress"),
        ("secretSettings.shared_cache.name=a,secretSettings.shared_cache.key=b", "let it through with networkPolicy"),
        ("settings.shared_cache=redis://me:word@redis:6379", "settings.shared_cache: Does not match pattern"),
        (
            "secretSettings.shared_cache.name=a,secretSettings.shared_cache.key=b,settings.shared_cache=c",
            "give it once",
        ),
        ("settings.label_studio_url=http://label-studio:8080", "let it through with networkPolicy.egress"),
    ],
)
def test_what_is_wrong_is_named(given: str, said: str) -> None:
    # In lists of `--set`, a backslash before a comma is Helm's own.
    assert said in re.sub(r"\s+", " ", refusal(settings=[given]))


def test_a_socket_needs_no_way_out() -> None:
    render(settings=["settings.shared_cache=unix:///run/redis/redis.sock"])


def test_a_pod_without_a_network_policy_reaches_what_it_likes() -> None:
    render(settings=["networkPolicy.enabled=false", "settings.otlp_endpoint=http://collector:4318"])


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.+?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S))
def test_values_that_the_page_shows_are_accepted(text: str, tmp_path: Path) -> None:
    assert yaml.safe_load(text)
    values = tmp_path / "values.yaml"
    values.write_text(text, encoding="utf-8")
    render(values)


@pytest.mark.parametrize(
    ("given", "said"), re.findall(r"^\| `--set (\S+)` \| `(.+?)` \|$", PAGE.read_text(encoding="utf-8"), re.M)
)
def test_helm_says_what_the_page_says(given: str, said: str) -> None:
    assert said in refusal(settings=[given])
