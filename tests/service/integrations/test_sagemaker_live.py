"""boto3's own client against a running service with the embedded model. AWS itself cannot be had: between the two
stands what passes on the body, its type and the custom attributes, and no other header, and wraps errors as AWS
documents it.
"""

import http.server
import json
import os
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import examples_of
from tests.repository import ROOT
from tests.service.conftest import in_base64
from tests.service.integrations.environments import python_with
from tests.service.server.test_process import PATIENCE_S, running

pytestmark = [pytest.mark.server, pytest.mark.system]

PHOTOGRAPH = in_base64((ROOT / "benchmarks" / "photographs" / "tourist.jpg").read_bytes())
PHONE = {"box": [308, 190, 401, 258]}
KEY = "sesame"
PASSED_ON = ("Content-Type", "X-Amzn-SageMaker-Custom-Attributes")


class Platform(http.server.BaseHTTPRequestHandler):
    """POST /endpoints/NAME/invocations -> the container's /invocations."""

    container = ""

    def do_POST(self) -> None:
        assert self.path == "/endpoints/regions/invocations" and "Authorization" in self.headers  # AWS's signature
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        asked = urllib.request.Request(self.container + "/invocations", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as response:
                self._answer(200, response.read(), {"Content-Type": response.headers["Content-Type"]})
        except urllib.error.HTTPError as error:
            told = {
                "OriginalStatusCode": error.code,
                "OriginalMessage": error.read().decode(),
                "Message": "Received ...",
            }
            self._answer(424, json.dumps(told).encode(), {"x-amzn-errortype": "ModelError"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def platform() -> Iterator[str]:
    """The address of what stands in for AWS."""
    with running("dynrefer.service.cli", "serve", "--integrations", "sagemaker", DYNREFER_API_KEYS=KEY) as server:
        server.await_ready()
        assert server.get("/ping") == (200, b"")
        handler = type("Fixed", (Platform,), {"container": server.address})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
            threading.Thread(target=found.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{found.server_address[1]}"
            found.shutdown()


def invoked(platform: str, *requests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What boto3's client got, `body` as JSON."""
    script = str(Path(__file__).with_name("sagemaker_client.py"))
    command = [str(python_with("sagemaker")), script, platform]
    done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return [{**each, "body": json.loads(each["body"])} for each in answers]


def in_json(**members: Any) -> dict[str, Any]:
    return {"ContentType": "application/json", "Body": json.dumps({"image": {"base64": PHOTOGRAPH}, **members})}


def test_an_endpoint_describes_and_finds(platform: str) -> None:
    alone = {"ContentType": "application/x-image", "Base64": PHOTOGRAPH}
    described, found, by_attributes = invoked(
        platform,
        in_json(regions=[PHONE], key=KEY),
        in_json(endpoint="detect", names=["phone", "zebra"], key=KEY),
        {**alone, "CustomAttributes": f"key={KEY}&box=308,190,401,258&task=caption"},
    )
    assert described["status"] == 200 and described["type"] == "application/json"
    assert described["body"]["regions"][0]["caption"]["text"] == "a black cell phone"
    assert [each["name"] for each in found["body"]["absent"]] == ["zebra"]
    assert by_attributes["body"]["regions"][0]["caption"]["name"] == "cell phone"


def test_the_snippet_of_the_documentation_runs(platform: str) -> None:
    (snippet,) = [each for each in examples_of(ROOT / "docs/integrations/sagemaker.md") if each.kind == "python"]
    code = snippet.text.replace('"task": "caption"}', f'"task": "caption", "key": "{KEY}"}}')
    aws = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "none")
    environment = {**os.environ, **aws, "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT_URL": platform}
    command = [str(python_with("sagemaker")), "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (0, snippet.answer), done.stderr


def test_errors_pass_through_the_platform(platform: str) -> None:
    no_key, wrong_key, bad_box, alone = invoked(
        platform,
        in_json(regions=[PHONE]),
        {**in_json(regions=[PHONE]), "CustomAttributes": "key=wrong"},
        in_json(regions=[{"box": [9, 9, 1, 1]}], key=KEY),
        {"ContentType": "image/jpeg", "Base64": PHOTOGRAPH},
    )
    assert [each["code"] for each in (no_key, wrong_key, bad_box, alone)] == ["ModelError"] * 4
    assert [each["status"] for each in (no_key, wrong_key, bad_box, alone)] == [401, 401, 422, 401]
    assert bad_box["body"]["errors"][0]["pointer"] == "/regions/0/box"
