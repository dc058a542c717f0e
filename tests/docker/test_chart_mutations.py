"""The chart, broken in one place at a time: each fault has to be noticed, or the other tests would be worth nothing."""

import shutil
from pathlib import Path

import pytest

from tests.docker.chart_faults import faults
from tests.docker.rendered_chart import CHART, VALUES, render

BY_NAME = {path.name.removesuffix("-values.yaml"): path for path in VALUES}
DEPLOYMENT, SETTINGS, POLICY = "deployment.yaml", "_settings.tpl", "networkpolicy.yaml"
SCALER, MONITOR = "horizontalpodautoscaler.yaml", "servicemonitor.yaml"

# values, template, what stands there, what is put in its place, part of the fault
MUTATIONS = [
    ("default", DEPLOYMENT, "{path: /livez, port: http}", "{path: /healthz, port: http}", "/healthz is no probe"),
    ("default", DEPLOYMENT, "{path: /livez, port: http}", "{path: /readyz, port: http}", "livenessProbe: asks /readyz"),
    ("default", DEPLOYMENT, "{path: /livez, port: http}", "{path: /livez, port: metrics}", "is not the service's"),
    ("default", DEPLOYMENT, "failureThreshold: 6", "failureThreshold: 1", "a pause of some seconds"),
    ("default", DEPLOYMENT, "enableServiceLinks: false", "enableServiceLinks: true", "links of Services"),
    ("default", DEPLOYMENT, "      enableServiceLinks: false\n", "", "links of Services"),
    ("default", DEPLOYMENT, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"),
    ("default", DEPLOYMENT, "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
    ("default", DEPLOYMENT, "seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}", "seccomp"),
    ("default", DEPLOYMENT, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can be written"),
    ("default", DEPLOYMENT, "drop: [ALL]", "drop: [NET_RAW]", "may gain privileges"),
    ("default", "_names.tpl", "$image.tag | default", '"latest" | default', "another image tomorrow"),
    ("default", DEPLOYMENT, "add .Values.drain.preStopSeconds", "add 0", "killed while it drains"),
    (
        "default",
        DEPLOYMENT,
        "sleep: {seconds: {{ .Values.drain.preStopSeconds }}}",
        "sleep: {seconds: 1}",
        "SIGTERM comes",
    ),
    ("everything", SETTINGS, '"request_timeout_s" | default 60', '"none" | default 60', "shorter than a request"),
    (
        "default",
        SETTINGS,
        '"metrics_port" .Values.metrics.port',
        '"metrics_port" 9999',
        "a port that the pod does not name",
    ),
    ("gpu", DEPLOYMENT, "merge (dict .Values.gpu.resource 1)", "merge dict", "device cuda, but no GPU"),
    ("gpu", SETTINGS, 'ternary "cuda" "cpu"', 'ternary "cpu" "cpu"', "device cpu, but"),
    ("gpu", DEPLOYMENT, "mountPath: /models, readOnly: true", "mountPath: /models", "/models: can be written"),
    (
        "gpu",
        DEPLOYMENT,
        "mountPath: /models, readOnly: true",
        "mountPath: /model, readOnly: true",
        "not in the models'",
    ),
    ("keys", SETTINGS, "/etc/dynrefer/api/keys", "/etc/dynrefer/keys", "not from a Secret"),
    (
        "keys",
        DEPLOYMENT,
        "- name: api-keys\n          secret:",
        "- name: api-keyz\n          secret:",
        "no volume api-keys",
    ),
    ("default", POLICY, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "does not limit both ways"),
    ("default", POLICY, "{{- if or $urls $policy.egress }}", "{{- if true }}", "a way out that no setting needs"),
    ("default", POLICY, "[{port: 8000, protocol: TCP}]", "[{port: 22, protocol: TCP}]", "lets"),
    ("everything", POLICY, "169.254.0.0/16, ", "", "169.254.169.254 is within reach"),
    ("everything", POLICY, ', "fe80::/10"', "", "fe80::1 is within reach"),
    ("everything", POLICY, "      ports: [{port: 443, protocol: TCP}]\n", "", "a way out to everywhere"),
    ("everything", SCALER, "dynrefer_queue_regions", "dynrefer_queued_regions", "no gauge dynrefer_queued_regions"),
    ("everything", DEPLOYMENT, "if not .Values.autoscaling.enabled", "if true", "set twice"),
    (
        "everything",
        SCALER,
        'kind: Deployment, name: {{ include "dynrefer.name" . }}',
        "kind: Deployment, name: a",
        "else",
    ),
    ("everything", MONITOR, "{port: metrics, path: /metrics", "{port: http, path: /metrics", "there are no metrics"),
    (
        "everything",
        MONITOR,
        "      app.kubernetes.io/component: metrics\n  endpoints",
        "  endpoints",
        "finds 2 Services",
    ),
    ("default", "service.yaml", "targetPort: http", "targetPort: https", "leads to a port"),
    ("default", "_names.tpl", "app.kubernetes.io/component: service\n{{- end", "{{- end", "finds the test's pod"),
    (
        "default",
        "poddisruptionbudget.yaml",
        "maxUnavailable:",
        "minAvailable: 1 #",
        "a single pod keeps its node",
    ),
]


@pytest.mark.parametrize(("values", "file", "before", "after", "fault"), MUTATIONS)
def test_a_broken_chart_is_noticed(values: str, file: str, before: str, after: str, fault: str, tmp_path: Path) -> None:
    chart = tmp_path / "dynrefer"
    shutil.copytree(CHART, chart)
    template = chart / "templates" / file
    text = template.read_text(encoding="utf-8")
    assert before in text, "the mutation no longer fits the template"
    template.write_text(text.replace(before, after), encoding="utf-8")
    found = faults(render(BY_NAME[values], chart=chart))
    assert any(fault in each for each in found), found
