"""`python -m tests.docker.update_chart` rewrites what the chart has from the code: the settings in values.schema.json,
those that it refuses in a sentence, and the table of values in docs/kubernetes.md, which is read from values.yaml.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from dynrefer.service.settings import HIDDEN, INTEGRATIONS, SECRETS, Settings
from tests.repository import ROOT

CHART = ROOT / "docker/helm/dynrefer"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
REFUSED = CHART / "files/refused-settings.yaml"
PAGE = ROOT / "docs/kubernetes.md"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"

# Settings that another value of the chart stands for, or that have no meaning in a pod of it: what to do instead.
ELSEWHERE = {
    "model": "set model.name",
    "device": "set gpu.enabled",
    "port": "set service.port, at which clients find it",
    "unix_socket": "clients find it at service.port",
    "metrics_host": "set settings.host, which the metrics follow",
    "metrics_port": "set metrics.port",
    "api_keys": "set apiKeys.lines or apiKeys.existingSecret, which hold no key in plain text",
    "api_keys_file": "set apiKeys.lines or apiKeys.existingSecret",
    "admin_keys": "set adminKeys.existingSecret",
    "admin_keys_file": "set adminKeys.existingSecret",
    "models_dir": "set adminKeys.existingSecret, which lets administrators switch between the models of the volume",
}
# Of Ray's replicas.
OF_RAY = (
    "engine",
    "replicas",
    "min_replicas",
    "max_replicas",
    "regions_per_replica",
    "upscale_delay_s",
    "downscale_delay_s",
    "replica_cpus",
    "replica_gpus",
    "ray_address",
    "ray_name",
    "object_store_bytes",
)
LISTS_OF_INTEGRATIONS = ("integrations", "keyless_integrations")


def refused() -> dict[str, str]:
    """Settings that `settings` must not have, and what to do instead."""
    secret = {name: f"set secretSettings.{name}, from an entry of a Secret" for name in SECRETS}
    of_ray = dict.fromkeys(OF_RAY, "use docker/ray/rayservice.yaml for replicas of Ray")
    instead = {**secret, **of_ray, **ELSEWHERE}
    return {name: instead[name] for name in Settings.model_fields if name in instead}


def settings_schema() -> dict[str, Any]:
    """JSON Schema (draft 7, which Helm reads) of the value `settings`: every setting that a pod of the chart can have.
    Those that are refused pass, because the template's sentence says more than a schema's.
    """
    described = Settings.model_json_schema()["properties"]
    properties = {name: {} if name in refused() else _setting(name, each) for name, each in described.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def secret_settings_schema() -> dict[str, Any]:
    """JSON Schema of the value `secretSettings`: the secrets that no file holds, and what may hold a password."""
    names = [name for name in HIDDEN if name not in ELSEWHERE]
    entry = {"$ref": "#/definitions/secretEntry"}
    return {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(names, entry)}


def _setting(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Without what only documents; a list holds no commas, which would part its items in the variable."""
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    (kept,) = [{key: each[key] for key in each if key not in ("title", "default", "description")} for each in options]
    if kept["type"] == "array":
        items = {"enum": list(INTEGRATIONS)} if name in LISTS_OF_INTEGRATIONS else {"pattern": "^[^,]+$"}
        kept = {"type": "array", "items": {"type": "string", **items}}
    if kept.pop("writeOnly", False):  # a URL that may hold a password, which belongs into `secretSettings`
        kept = {"type": "string", "pattern": "^[^@]*$"}
    if kept["type"] == "number":  # `helm --set` makes text of 0.5
        kept = {**kept, "type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$"}
    kept.pop("format", None)  # "path", which no validator knows
    return kept


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of all values, with what the code gives."""
    generated = {"settings": settings_schema(), "secretSettings": secret_settings_schema()}
    return {**schema, "properties": {**schema["properties"], **generated}}


def values_table() -> str:
    """One row per value that values.yaml marks: name, default, what it is."""
    rows = ["| value | default | what it is |", "|---|---|---|"]
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    for path, description in described_values():
        value: Any = values
        for name in path:
            value = value[name]
        shown = "" if value in ("", [], {}) else f"`{json.dumps(value)}`".replace('"', "")
        rows.append(f"| `{'.'.join(path)}` | {shown} | {description} |")
    return "\n".join(rows) + "\n"


def described_values() -> list[tuple[tuple[str, ...], str]]:
    """The path of each value of values.yaml behind a comment that begins with "# --", and the comment."""
    found: list[tuple[tuple[str, ...], str]] = []
    path: list[tuple[int, str]] = []
    comment = ""
    for line in VALUES.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            comment = text.removeprefix("# -- ")
        elif text.startswith("# ") and comment:
            comment += " " + text.removeprefix("# ")
        elif named := re.match(r"( *)(\w+):", line):
            indent = len(named[1])
            path = [(depth, name) for depth, name in path if depth < indent] + [(indent, named[2])]
            if comment:
                found.append((tuple(name for _, name in path), comment))
            comment = ""
    return found


def with_table(text: str) -> str:
    """The page with the table that values.yaml gives."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + values_table() + END + after


def files() -> dict[Path, str]:
    """What each file is to hold."""
    schema = with_settings(json.loads(SCHEMA.read_text(encoding="utf-8")))
    head = "# Settings that `settings` must not have, and what to do instead: python -m tests.docker.update_chart.\n"
    return {
        SCHEMA: json.dumps(schema, indent=2) + "\n",
        REFUSED: head + yaml.safe_dump(refused(), sort_keys=False, width=200),
        PAGE: with_table(PAGE.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
