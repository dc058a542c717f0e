"""Run by the interpreter of an environment with `tritonclient`, without anything of this repository: asks a service by
every way of that client, and prints what came back as JSON.

    python triton_client.py HOST:PORT KEY IMAGE IMAGE
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.http.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException


def tensor(name: str, *elements: bytes, binary: bool = True, shape: list[int] | None = None) -> Any:
    """An input."""
    array = np.array(elements, dtype=np.object_).reshape(shape or [len(elements)])
    given = triton.InferInput(name, array.shape, "BYTES")
    given.set_data_from_numpy(array, binary_data=binary)
    return given


async def infer_in_a_loop(address: str, headers: dict[str, str], *inputs: Any) -> Any:
    """By the client for asyncio."""
    async with AsyncClient(address) as client:
        return await client.infer("describe", list(inputs), headers=headers)


def main(address: str, key: str, first: Path, second: Path) -> None:
    """Prints one object."""
    # Two connections: an answer that is not read yet holds one.
    client = triton.InferenceServerClient(address, concurrency=2, network_timeout=120)
    headers = {"Authorization": f"Bearer {key}"}
    image, other = first.read_bytes(), second.read_bytes()
    caption = json.dumps({"task": "caption"}).encode()
    dogs = json.dumps({"names": ["dog", "giraffe"]}).encode()

    def infer(model: str, *inputs: Any, **more: Any) -> Any:
        # A copy, because the client writes the JSON's length of this request into the headers that it is given.
        return client.infer(model, list(inputs), headers=dict(headers), **more)

    def texts(result: Any) -> list[Any]:
        return [json.loads(each) for each in result.as_numpy("answer").reshape(-1)]

    def error(ask: Callable[[], Any]) -> list[str]:
        try:
            ask()
        except InferenceServerException as raised:
            return [str(raised.status()), str(raised.message())]
        raise AssertionError("nothing was refused")

    metadata = client.get_model_metadata("describe", headers=headers)
    version = metadata["versions"][0]
    in_json = [triton.InferRequestedOutput("answer", binary_data=False)]
    base64_image = tensor("image", base64.b64encode(image), binary=False)
    several = infer("describe", tensor("image", image, other, shape=[2, 1]), tensor("request", caption))
    pending = client.async_infer(
        "describe", [tensor("image", image), tensor("request", caption)], headers=dict(headers)
    )
    looped = asyncio.run(infer_in_a_loop(address, dict(headers), tensor("image", image), tensor("request", caption)))
    print(
        json.dumps(
            {
                "live": client.is_server_live(),
                "ready": client.is_server_ready(),
                "model_ready": [
                    client.is_model_ready(name, headers=headers) for name in ("describe", "detect", "bert")
                ],
                "server": client.get_server_metadata(headers=headers),
                "metadata": metadata,
                "binary": texts(infer("describe", tensor("image", image), tensor("request", caption))),
                "json": texts(
                    infer("describe", base64_image, tensor("request", caption, binary=False), outputs=in_json)
                ),
                "mixed": texts(infer("describe", base64_image, tensor("request", caption), request_id="mine")),
                "version": infer("describe", tensor("image", image), model_version=version).get_response()["outputs"],
                "several": texts(several),
                "several_shape": list(several.as_numpy("answer").shape),
                "async": texts(pending.get_result()),
                "aio": texts(looped),
                "found": texts(infer("detect", tensor("image", image), tensor("request", dogs))),
                "errors": {
                    "field": error(
                        lambda: infer("describe", tensor("image", image), tensor("request", b'{"taks": 1}'))
                    ),
                    "image": error(lambda: infer("describe", tensor("image", b"no image"))),
                    "model": error(lambda: infer("bert", tensor("image", image))),
                    "key": error(lambda: client.infer("describe", [tensor("image", image)])),
                    "timeout": error(lambda: infer("describe", tensor("image", image), timeout=5)),
                    "compressed": error(
                        lambda: infer("describe", tensor("image", image), request_compression_algorithm="gzip")
                    ),
                },
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
