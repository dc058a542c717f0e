"""The chart in docker/helm/dynrefer as Helm renders it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.repository import ROOT

CHART = ROOT / "docker/helm/dynrefer"
RELEASE = "demo"
# Kubernetes that the chart is rendered for, unless a test names another one: model.image needs 1.33.
KUBERNETES = "1.35.0"
# Sets of values that are to work; `helm lint` and the tests take them all.
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))

Document = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the Helm that this environment's Python package brings."""
    program = Path(sys.executable).with_name("helm")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def template(
    *values: Path, settings: Sequence[str] = (), chart: Path = CHART, kubernetes: str = KUBERNETES
) -> subprocess.CompletedProcess[str]:
    """`helm template` with files of values, and with `name=value` each."""
    files = [f"--values={path}" for path in values]
    return helm(
        "template", RELEASE, chart, f"--kube-version={kubernetes}", *files, *(f"--set={each}" for each in settings)
    )


def render(
    *values: Path, settings: Sequence[str] = (), chart: Path = CHART, kubernetes: str = KUBERNETES
) -> list[Document]:
    """The objects, in the order that Helm installs them."""
    done = template(*values, settings=settings, chart=chart, kubernetes=kubernetes)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(*values: Path, settings: Sequence[str] = (), kubernetes: str = KUBERNETES) -> str:
    """What Helm says of values that it refuses."""
    done = template(*values, settings=settings, kubernetes=kubernetes)
    assert done.returncode != 0, "it was rendered"
    return done.stderr


def of_kind(documents: Sequence[Document], kind: str) -> list[Document]:
    """Those of a kind."""
    return [document for document in documents if document["kind"] == kind]


def deployment(documents: Sequence[Document]) -> Document:
    """The one that runs the service."""
    (found,) = of_kind(documents, "Deployment")
    return found


def container(documents: Sequence[Document]) -> Document:
    """The container of the service."""
    (found,) = deployment(documents)["spec"]["template"]["spec"]["containers"]
    return found  # type: ignore[no-any-return]


def environment(container: Document) -> dict[str, str]:
    """Its variables, those from Secrets with an empty text."""
    return {each["name"]: each.get("value", "") for each in container["env"]}
