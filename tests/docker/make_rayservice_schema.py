"""`python -m tests.docker.make_rayservice_schema CRD.yaml VERSION` writes what of KubeRay's CustomResourceDefinition
the test of docker/ray/rayservice.yaml needs, from ray-operator/config/crd/bases/ray.io_rayservices.yaml of a checkout.

Left out are the status, what only documents, and pods: these are checked against Kubernetes' own schemas. Fields that
the definition does not name are refused, where Kubernetes would drop them without a word.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.repository import ROOT

SCHEMA = ROOT / "tests/docker/schemas/rayservice.json"
POD = "template"


def reduced(schema: Any) -> Any:
    """A part of the schema, strict and without descriptions and rules in CEL, which no validator of ours reads."""
    if isinstance(schema, list):
        return [reduced(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        name: reduced(each)
        for name, each in schema.items()
        if not name.startswith("x-kubernetes-") and not (name in ("description", "format") and isinstance(each, str))
    }
    if isinstance(kept.get("properties"), dict):
        if POD in kept["properties"]:
            kept["properties"][POD] = {"type": "object"}
        kept.setdefault("additionalProperties", False)
    return kept


def main(crd: Path, version: str) -> None:
    """Write the file."""
    definition = yaml.safe_load(crd.read_text(encoding="utf-8"))
    (stored,) = [each for each in definition["spec"]["versions"] if each["storage"]]
    spec = stored["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema = {
        "$comment": f"RayService {stored['name']} of KubeRay {version} (Apache-2.0), by {Path(__file__).name}",
        **reduced(spec),
    }
    SCHEMA.write_text(json.dumps(schema, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{SCHEMA.relative_to(ROOT)}: {SCHEMA.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
