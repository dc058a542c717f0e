"""`python -m tests.service.api.update_examples` asks the embedded model for the examples of the OpenAPI document,
provokes every problem, and writes them all to service/api/examples.json; then it rewrites the snapshot of the document.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr

from dynrefer import DynRefer
from dynrefer.model import Predictor
from dynrefer.service.api.converse_schemas import EVENTS
from dynrefer.service.api.examples import EXAMPLES
from dynrefer.service.api.problems import PROBLEM_JSON
from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.service.api.example_requests import ADMIN, GETS, JSON, PARAMETERS, POSTS, sample_bytes, shortened
from tests.service.api.provoked_problems import HEADERS, provoked
from tests.service.api.update_openapi import write_snapshot
from tests.service.conftest import await_ready, in_base64

Json = dict[str, Any]

TEXT = "text/plain"
MOST_LINES = 12  # of a text in an example


@contextmanager
def serving(predictor: Predictor[Any, Any]) -> Iterator[TestClient]:
    """A client of the service around a model, in this process."""
    app = create_app(Settings(worker_processes=0, admin_keys=(SecretStr(ADMIN),)), predictor)
    with TestClient(app, headers={**HEADERS, "authorization": f"Bearer {ADMIN}"}) as client:
        await_ready(client)
        yield client


def answered(client: TestClient) -> dict[str, Json]:
    """Operation -> its requests and answers, with status 200."""
    image = in_base64(sample_bytes())
    found: dict[str, Json] = {operation: {} for operation in POSTS}
    for operation, summary in GETS.items():  # before one of the others lets another model serve
        parameters = PARAMETERS.get(operation, {})
        response = client.get(operation.partition(" ")[2].format(**parameters))
        media = response.headers["content-type"].partition(";")[0]
        answer = {media: {"answer": {"summary": summary, "value": content_of(response)}}}
        found[operation] = {"requests": {}, "answers": {"200": answer}, "parameters": parameters}
    for operation, named in POSTS.items():
        entry = found[operation] = {"requests": {}, "answers": {"200": {JSON: {}}}}
        entry["parameters"] = PARAMETERS.get(operation, {})
        for name, request in named.items():
            entry["requests"].setdefault(request.media, {})[name] = request.example()
            response = client.post(operation.partition(" ")[2], **request.posted(image))
            entry["answers"]["200"][JSON][name] = {"summary": request.summary, "value": content_of(response)}
            if operation == "POST /v1/converse" and EVENTS not in entry["answers"]["200"]:
                streamed = client.post(operation.partition(" ")[2], **request.posted(image), headers={"accept": EVENTS})
                example = {"summary": f"{request.summary}, streamed", "value": streamed.text}
                entry["answers"]["200"][EVENTS] = {name: example}
    return found


def content_of(response: Response) -> Any:
    """What an example shows of an answer."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith(TEXT):
        ours = [line for line in response.text.splitlines() if "dynrefer_" in line]
        return "\n".join(ours[:MOST_LINES]) + "\n"
    return shortened(response.json())


def with_problems(examples: dict[str, Json], problems: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """The same with the problem documents of each operation, by their statuses and slugs."""
    for operation, by_slug in problems.items():
        answers = examples[operation]["answers"]
        for slug, problem in by_slug.items():
            named = answers.setdefault(str(problem["status"]), {PROBLEM_JSON: {}})[PROBLEM_JSON]
            named[slug] = {"summary": problem["title"], "value": problem}
    return examples


def main() -> None:
    """The command."""
    with serving(DynRefer.load("embedded")) as client:
        answers = answered(client)
    logging.disable()  # the failures are provoked
    examples = with_problems(answers, provoked())
    EXAMPLES.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_snapshot()


if __name__ == "__main__":
    main()
