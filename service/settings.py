"""The service's settings: one frozen record from flags and DYNREFER_* variables, checked once, before
anything starts.

Every field has an environment twin (DYNREFER_MAX_BODY_BYTES) and, keys apart, a flag (--max-body-bytes). A
flag wins over the environment. Units stand in the names. Nothing here is read at import.
"""

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "DYNREFER_"

Positive = Annotated[int, Field(ge=1)]


class SettingsError(Exception):
    """A setting that cannot be honoured; one sentence that names it as the person gave it."""


class Settings(BaseSettings):
    """Everything about the service that may be chosen from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    model: str = Field(default="embedded", min_length=1, description="name or directory of the model")
    device: str = Field(default="auto", min_length=1, description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto, float32 or bfloat16")
    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")

    max_body_bytes: int = Field(default=33_554_432, ge=1_024, description="largest request body")
    # Pillow itself warns from 89,478,485 pixels on, so a higher limit here could not be honoured.
    max_image_pixels: int = Field(default=50_000_000, ge=1, le=89_000_000, description="largest image, width x height")
    max_json_values: Positive = Field(default=100_000, description="most values in a request's JSON")
    max_regions: Positive = Field(default=64, description="most regions in a request")
    max_top_k: Positive = Field(default=1_000, description="largest top_k")
    max_controls: Positive = Field(default=16, description="most control words in a request")
    max_control_chars: Positive = Field(default=64, description="longest control word, in characters")
    max_id_chars: Positive = Field(default=128, description="longest region id, in characters")

    max_queue_regions: Positive = Field(default=256, description="most regions that wait for the device")
    max_batch_regions: Positive = Field(default=16, description="most regions in one batch")
    max_batch_views: Positive = Field(default=48, description="most views in one batch")
    batch_wait_ms: float = Field(
        default=2.0,
        ge=0,
        le=1_000,
        allow_inf_nan=False,
        description="longest wait of a batch for announced regions",
    )
    worker_threads: int = Field(default=2, ge=1, le=256, description="threads for image work")

    request_timeout_s: float = Field(
        default=60.0, gt=0, le=3_600, allow_inf_nan=False, description="deadline of a request"
    )
    shutdown_grace_s: int = Field(default=30, ge=0, le=3_600, description="time to finish admitted requests on SIGTERM")
    keep_alive_s: Positive = Field(default=30, description="how long an idle connection is kept")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="text or json, one line per event")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), description="keys, separated by commas")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key.strip() for key in value.split(",") if key.strip())
        return value

    @model_validator(mode="after")
    def _queue_holds_one_request(self) -> Self:
        if self.max_queue_regions < self.max_regions:
            raise ValueError(
                f"max_queue_regions ({self.max_queue_regions}) must hold one full request, "
                f"max_regions ({self.max_regions})"
            )
        return self


def flag_names() -> tuple[str, ...]:
    """Fields that have a flag: not the keys, because every user of a machine can read its command lines."""
    return tuple(name for name in Settings.model_fields if name != "api_keys")


def load_settings(flags: Mapping[str, str] | None = None) -> Settings:
    """Settings from the given flags (field name -> text as typed) over the environment over the defaults.

    Raises SettingsError for an unknown DYNREFER_* variable or any value that is refused.
    """
    given: Mapping[str, Any] = flags or {}
    _refuse_unknown_variables()
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_sentence(error, given)) from None


def _refuse_unknown_variables() -> None:
    known = [name.upper() for name in Settings.model_fields]
    for name in os.environ:
        given = name.upper()
        if given.startswith(PREFIX) and given.removeprefix(PREFIX) not in known:
            # Without the prefix: it would make all names look alike.
            nearest = difflib.get_close_matches(given.removeprefix(PREFIX), known, n=1)
            hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else "."
            raise SettingsError(f"unknown setting {name}{hint}")


def _sentence(error: ValidationError, flags: Mapping[str, Any]) -> str:
    """The first complaint, under the name that the person used. Secret values are never shown."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    field = str(first["loc"][0])
    name = "--" + field.replace("_", "-") if field in flags else PREFIX + field.upper()
    shown = "" if field == "api_keys" else f" {first['input']!r}"
    return f"{name}{shown} is refused: {message[:1].lower()}{message[1:]}"
