"""The service's records -> a chat completion, or the events of a streamed one.

The text of the answer is a caption for each region, in the regions' order, one per line; a region that failed alone has
an empty line. Where the request's tasks leave captions out, a line is what the first of them found: names, best first.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dynrefer.model import ModelCard
from dynrefer.service.api.schemas import (
    AttributeOut,
    CaptionCandidateOut,
    CaptionOut,
    DescribeResponse,
    FailedRegionOut,
    LabelOut,
    RegionOut,
)
from dynrefer.service.integrations.openai.parameters import Wanted

NAMED_TASKS = ("categories", "tags", "attributes")  # what a region is called is said by the first that it has
AnyCaption = CaptionOut | CaptionCandidateOut


@dataclass(frozen=True, slots=True)
class Choice:
    """lines: one per region. captions: those among them. finish_reason: "length" where one met a limit."""

    lines: tuple[str, ...]
    captions: tuple[AnyCaption, ...]
    finish_reason: str


def write_completion(
    response: DescribeResponse, wanted: Wanted, card: ModelCard, max_words: int | None
) -> tuple[bytes, str]:
    """(body, media type). CPU work. max_words: of the request."""
    choices = _choices(response, wanted.captions or 1, card.max_caption_tokens, max_words)
    head: dict[str, Any] = {
        "id": f"chatcmpl-{response.id}",
        "created": int(time.time()),
        "model": response.model,
        "system_fingerprint": card.revision,
    }
    if wanted.stream:
        events = "".join(f"data: {_json(each)}\n\n" for each in _chunks(head, choices, response, wanted.include_usage))
        return f"{events}data: [DONE]\n\n".encode(), "text/event-stream"
    document = {
        **head,
        "object": "chat.completion",
        "choices": [_whole(place, choice) for place, choice in enumerate(choices)],
        "usage": _usage(choices),
        **_records(response),
    }
    return _json(document).encode(), "application/json"


def num_tokens(caption: AnyCaption) -> int:
    """How many tokens were generated for a caption, its end included: the sum of their log-probabilities over the mean.

    0 where nothing can be told, because every token had the probability 1.
    """
    return round(caption.logprob_sum / caption.logprob_mean) if caption.logprob_mean else 0


def _choices(response: DescribeResponse, count: int, most_tokens: int | None, max_words: int | None) -> list[Choice]:
    """So many, or fewer where fewer different captions were found. Several are of a single region."""
    if count == 1:
        return [_choice([(each, _caption(each)) for each in response.regions], most_tokens, max_words)]
    (region,) = response.regions
    candidates = getattr(_caption(region), "candidates", None) or [_caption(region)]
    return [_choice([(region, each)], most_tokens, max_words) for each in candidates]


def _choice(
    described: list[tuple[RegionOut | FailedRegionOut, AnyCaption | None]],
    most_tokens: int | None,
    max_words: int | None,
) -> Choice:
    lines = tuple(_names(region) if caption is None else caption.text for region, caption in described)
    captions = tuple(caption for _, caption in described if caption is not None)
    long = any(most_tokens is not None and num_tokens(each) >= most_tokens for each in captions)
    long = long or any(max_words is not None and len(each.text.split()) >= max_words for each in captions)
    return Choice(lines, captions, "length" if long else "stop")


def _caption(region: RegionOut | FailedRegionOut) -> CaptionOut | None:
    return None if isinstance(region, FailedRegionOut) else region.caption


def _names(region: RegionOut | FailedRegionOut) -> str:
    if isinstance(region, FailedRegionOut):
        return ""
    lists = (getattr(region, task) for task in NAMED_TASKS)
    found: list[LabelOut | AttributeOut] = next((labels for labels in lists if labels is not None), [])
    return ", ".join(label.name for label in found)


def _whole(place: int, choice: Choice) -> dict[str, Any]:
    message = {"role": "assistant", "content": "\n".join(choice.lines), "refusal": None}
    return {"index": place, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def _usage(choices: list[Choice]) -> dict[str, int]:
    """No token is read from the prompt: the model is given representations of regions, and words of the request only as
    `controls`, whose tokens are not known here."""
    generated = sum(num_tokens(each) for choice in choices for each in choice.captions)
    return {"prompt_tokens": 0, "completion_tokens": generated, "total_tokens": generated}


def _records(response: DescribeResponse) -> dict[str, Any]:
    """What /v1/describe answers, but for what the completion says itself."""
    return response.model_dump(mode="json", exclude_none=True, exclude={"id", "model"})


def _chunks(
    head: dict[str, Any], choices: list[Choice], response: DescribeResponse, include_usage: bool
) -> Iterator[dict[str, Any]]:
    """The events of a stream: of each choice its role, a piece per region, its end; the last end has the records."""
    usage = {"usage": None} if include_usage else {}

    def chunk(place: int, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": place, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "object": "chat.completion.chunk", "choices": [choice], **usage}

    for place, choice in enumerate(choices):
        yield chunk(place, {"role": "assistant", "content": ""})
        for number, line in enumerate(choice.lines):
            yield chunk(place, {"content": f"\n{line}" if number else line})
        last = place == len(choices) - 1
        yield {**chunk(place, {}, choice.finish_reason), **(_records(response) if last else {})}
    if include_usage:
        yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(choices)}


def _json(document: dict[str, Any]) -> str:
    # ASCII alone: readers of event streams take some other characters for line ends.
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
