"""OpenAI's parameters of a chat completion: which of them mean something here, and what of the others is refused.

One rule for all: a parameter that has a true meaning is honoured; one that could not change the answer of this model
whatever it says is accepted; and one that asks for another answer than this model's is refused by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dynrefer.service.errors import FieldError, InvalidRequestError

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """accepts: the values that are honoured, beside null. refusal: a sentence about all others."""

    accepts: Callable[[Any], bool]
    refusal: str


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 1_000_000_000


def _only(*values: Any) -> Callable[[Any], bool]:
    """These values; 0 is 0.0, but not false."""
    return lambda value: any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


def _anything(value: Any) -> bool:
    return True


def _is_stream_options(value: Any) -> bool:
    known = ("include_usage", "include_obfuscation")
    return isinstance(value, dict) and all(name in known and type(each) is bool for name, each in value.items())


_PENALTY = "'{name}' is 0 here: the search for captions weighs no words by how often they occurred."
_TOOLS = "'{name}' cannot be honoured: this model describes regions and calls no tools."
_HARMLESS = Parameter(_anything, "")
_COUNT = "'{name}' is a whole number, at least 1."

PARAMETERS: Mapping[str, Parameter] = {
    "stream": Parameter(_only(True, False), "'stream' is true or false."),
    "stream_options": Parameter(_is_stream_options, "'stream_options' is an object with the member 'include_usage'."),
    "n": Parameter(_is_count, _COUNT),
    "max_tokens": Parameter(_is_count, _COUNT),
    "max_completion_tokens": Parameter(_is_count, _COUNT),
    # Chance may enter, but it need not; more of it than the model's own distribution has is a wish for another answer.
    "temperature": Parameter(
        lambda value: _is_number(value, 0, 1),
        "'temperature' is a number from 0 to 1: the answer is the most probable caption, in which chance has no part. "
        "Ask for other captions with 'n'.",
    ),
    "top_p": Parameter(lambda value: _is_number(value, 0, 1), "'top_p' is a number from 0 to 1."),
    "frequency_penalty": Parameter(_only(0), _PENALTY),
    "presence_penalty": Parameter(_only(0), _PENALTY),
    "logit_bias": Parameter(_only({}), "'logit_bias' cannot be honoured; 'controls' names words to take up."),
    "logprobs": Parameter(
        _only(False),
        "'logprobs' cannot be honoured: those of tokens are not known. A caption's sum and mean stand in 'regions'.",
    ),
    "top_logprobs": Parameter(_only(0), "'top_logprobs' cannot be honoured."),
    "stop": Parameter(_only([]), "'stop' cannot be honoured: captions end by themselves; 'max_words' limits them."),
    "response_format": Parameter(
        _only({"type": "text"}),
        "'response_format' is {\"type\": \"text\"} here; the typed records stand beside it, in the answer's 'regions'.",
    ),
    "modalities": Parameter(_only(["text"], []), "'modalities' is [\"text\"]: this model speaks no sound."),
    "audio": Parameter(_only(), "'audio' cannot be honoured: this model speaks no sound."),
    "tools": Parameter(_only([]), _TOOLS),
    "tool_choice": Parameter(_only("none", "auto"), _TOOLS),
    "functions": Parameter(_only([]), _TOOLS),
    "function_call": Parameter(_only("none", "auto"), _TOOLS),
    "web_search_options": Parameter(_only(), _TOOLS),
    "moderation": Parameter(_only(), "'moderation' cannot be honoured: nothing is moderated here."),
    "reasoning_effort": Parameter(_only("none"), "'reasoning_effort' cannot be honoured: this model does not reason."),
    "verbosity": Parameter(_only("medium"), "'verbosity' cannot be honoured; 'max_words' limits captions."),
    "store": Parameter(_only(False), "'store' cannot be honoured: nothing is kept."),
    "service_tier": Parameter(_only("auto", "default"), "'service_tier' is \"auto\": there is one tier."),
    # The answer is the same whatever they say: it is computed without chance, prompts are not cached by name, and
    # nothing is done with who asks.
    "seed": _HARMLESS,
    "user": _HARMLESS,
    "metadata": _HARMLESS,
    "safety_identifier": _HARMLESS,
    "prompt_cache_key": _HARMLESS,
    "prompt_cache_options": _HARMLESS,
    "prompt_cache_retention": _HARMLESS,
    "parallel_tool_calls": _HARMLESS,
    "prediction": _HARMLESS,
    "use_cache": _HARMLESS,  # DAM's clients send it
}


LIMITS = ("max_tokens", "max_completion_tokens")  # two names of one thing


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked beside the description itself.

    model: its name, not checked. captions: `n`, None where it is not given. max_tokens: of a choice; limited_by: the
    parameter that says so.
    """

    model: str
    captions: int | None = None
    max_tokens: int | None = None
    limited_by: str = "max_tokens"
    stream: bool = False
    include_usage: bool = False


def read_parameters(document: Document) -> Wanted:
    """Raises InvalidRequestError for all that cannot be honoured."""
    flaws = [_flaw(name, document[name]) for name in PARAMETERS if document.get(name) is not None]
    errors = [each for each in flaws if each is not None]
    model = document.get("model")
    if not isinstance(model, str) or not model:
        errors.append(FieldError("/model", "'model' is required: the name of the loaded model, or \"dynrefer\"."))
        model = ""
    limits = [name for name in LIMITS if document.get(name) is not None]
    if len(limits) > 1:
        errors.append(FieldError("/max_tokens", "Give either 'max_tokens' or 'max_completion_tokens', not both."))
    options, stream = document.get("stream_options"), document.get("stream") is True
    if options is not None and not stream:
        errors.append(FieldError("/stream_options", "'stream_options' stands only beside \"stream\": true."))
    if errors:
        summary = errors[0].detail if len(errors) == 1 else f"The request has {len(errors)} errors."
        raise InvalidRequestError(summary, errors)
    include_usage = bool((options or {}).get("include_usage"))
    limit = limits[0] if limits else LIMITS[0]
    return Wanted(model, document.get("n"), document.get(limit), limit, stream, include_usage)


def _flaw(name: str, value: Any) -> FieldError | None:
    parameter = PARAMETERS[name]
    return None if parameter.accepts(value) else FieldError(f"/{name}", parameter.refusal.replace("{name}", name))
