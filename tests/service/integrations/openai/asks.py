"""Run by the interpreter of an environment that has OpenAI's own client: `python asks.py ADDRESS FOLDER`.

FOLDER has scene.webp and masked.png. Prints one JSON object, name -> what came back.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

ADDRESS, FOLDER = sys.argv[1], Path(sys.argv[2])
KEY = "sesame"
# Of scene.webp, and regions in it, in pixels.
WIDTH, HEIGHT = 221, 231
PIG, GLASS = [50, 88, 105, 140], [56, 148, 124, 230]


def data_uri(name: str) -> str:
    """An image as its clients send it."""
    kind = name.rpartition(".")[2]
    return f"data:image/{kind};base64,{base64.b64encode((FOLDER / name).read_bytes()).decode()}"


def about(text: str | None, image: str = "scene.webp") -> list[dict[str, Any]]:
    """The messages of a request."""
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": data_uri(image), "detail": "high"}}]
    if text is not None:
        content.append({"type": "text", "text": text})
    return [{"role": "user", "content": content}]


def completion(found: Any) -> dict[str, Any]:
    """Of a completion, its contents and what stands beside them, as the client's own objects give them."""
    return {
        "texts": [choice.message.content for choice in found.choices],
        "reasons": [choice.finish_reason for choice in found.choices],
        "roles": [choice.message.role for choice in found.choices],
        "model": found.model,
        "object": found.object,
        "usage": found.usage.model_dump(exclude_none=True),
        "regions": found.regions,
        "request_id": found._request_id,
        "id": found.id,
    }


def refused(call: Callable[[], Any]) -> dict[str, Any]:
    """What the client raises."""
    try:
        call()
    except openai.APIStatusError as error:
        names = ("status_code", "message", "type", "param", "code", "request_id")
        return {"kind": type(error).__name__, **{name: getattr(error, name) for name in names}}
    return {"kind": None}


def streamed(client: OpenAI, **options: Any) -> list[dict[str, Any]]:
    """The chunks of a stream, as the client gives them."""
    stream = client.chat.completions.create(model="dynrefer", stream=True, **options)
    return [chunk.model_dump() for chunk in stream]


def gathered(client: OpenAI, **options: Any) -> dict[str, Any]:
    """A stream as the client itself puts it together."""
    with client.chat.completions.stream(model="dynrefer", **options) as stream:
        kinds = [event.type for event in stream]
        found = stream.get_final_completion()
    return {"kinds": kinds, "texts": [choice.message.content for choice in found.choices]}


async def by_the_async_client() -> dict[str, Any]:
    """One answer whole, one streamed, at the same time."""
    async with AsyncOpenAI(base_url=f"{ADDRESS}/v1", api_key=KEY, max_retries=0) as client:
        create = client.chat.completions.create

        async def pieces() -> list[str]:
            stream = await create(model="dynrefer", messages=about(f"Describe {PIG}."), stream=True)
            return [chunk.choices[0].delta.content or "" async for chunk in stream]

        whole, streamed = await asyncio.gather(create(model="dynrefer", messages=about(f"Describe {PIG}.")), pieces())
        return {"whole": completion(whole), "streamed": "".join(streamed)}


def main() -> None:
    """Ask everything."""
    client = OpenAI(base_url=f"{ADDRESS}/v1", api_key=KEY, max_retries=0)
    create = client.chat.completions.create
    scaled = [round(value * 1000 / side) for value, side in zip(PIG, (WIDTH, HEIGHT) * 2, strict=True)]
    raw = client.chat.completions.with_raw_response.create(
        model="dynrefer", messages=about(f"Describe {PIG}."), extra_headers={"X-Request-Id": "my-own"}
    )
    models = client.models.list()
    name = models.data[0].id
    stranger = OpenAI(base_url=f"{ADDRESS}/v1", api_key="wrong", max_retries=0)
    # As the example of DAM's server asks it: without the version in the path, and by DAM's name.
    dam = OpenAI(base_url=ADDRESS, api_key=KEY, max_retries=0)
    found = {
        "text": completion(create(model=name, messages=about(f"Describe {PIG} and {GLASS}."))),
        "field": completion(
            create(
                model=name,
                messages=about(None),
                extra_body={"regions": [{"id": "pig", "box": PIG}, {"box": GLASS}], "top_k": 2},
            )
        ),
        "per mille": completion(
            create(model=name, messages=about(f"Describe {scaled}."), extra_body={"coordinates": "per_mille"})
        ),
        "whole": completion(create(model=name, messages=about("What is in this image?"))),
        "alpha": completion(
            dam.chat.completions.create(
                model="describe_anything_model",
                messages=about("<image>\nDescribe the masked region in detail.", "masked.png"),
                max_tokens=512,
                temperature=0.2,
                top_p=0.5,
                extra_body={"num_beams": 1, "use_cache": True},
            )
        ),
        "several": completion(create(model=name, messages=about(f"Describe {PIG}."), n=2, seed=1, user="me")),
        "streamed": streamed(client, messages=about(f"Describe {PIG} {GLASS}"), stream_options={"include_usage": True}),
        "gathered": gathered(client, messages=about(f"Describe {PIG} {GLASS}")),
        "gathered several": gathered(client, messages=about(f"Describe {PIG}"), n=2),
        "async": asyncio.run(by_the_async_client()),
        "raw": {"request_id": raw.headers["x-request-id"], "parsed": completion(raw.parse())},
        "models": {"object": models.object, "data": [each.model_dump() for each in models.data]},
        "model": client.models.retrieve(name).model_dump(),
        "refused": {
            "question": refused(lambda: create(model=name, messages=about("What colour is the pig's hat?"))),
            "no image": refused(lambda: create(model=name, messages=[{"role": "user", "content": "Hello!"}])),
            "outside": refused(lambda: create(model=name, messages=about("Describe [0, 0, 9, 9] [900, 1, 950, 9]"))),
            "schema": refused(
                lambda: create(model=name, messages=about(None), response_format={"type": "json_object"})
            ),
            "tokens": refused(lambda: create(model=name, messages=about(None), max_completion_tokens=5)),
            "streamed": refused(lambda: streamed(client, messages=about("Tell me a joke."))),
            "model": refused(lambda: create(model="gpt-5", messages=about(None))),
            "retrieved": refused(lambda: client.models.retrieve("gpt-5")),
            "key": refused(lambda: stranger.models.list()),
            "key of a chat": refused(lambda: stranger.chat.completions.create(model=name, messages=about(None))),
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
