"""The service's settings: one frozen record from flags and DYNREFER_* variables, checked once, before
anything starts.

Every field has an environment twin (DYNREFER_MAX_BODY_BYTES) and, keys apart, a flag (--max-body-bytes). A
flag wins over the environment. Units stand in the names. Nothing here is read at import.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "DYNREFER_"

Positive = Annotated[int, Field(ge=1)]
Texts = Annotated[tuple[str, ...], NoDecode]

# A name with a dot and a last part that is no number: an address in any notation is none.
HOST_NAME = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


class SettingsError(Exception):
    """A setting that cannot be honoured; one sentence that names it as the person gave it."""


class Settings(BaseSettings):
    """Everything about the service that may be chosen from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    model: str = Field(default="embedded", min_length=1, description="name or directory of the model")
    device: str = Field(default="auto", min_length=1, description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto, float32 or bfloat16")
    cache_bytes: int = Field(default=0, ge=0, description="device memory for views and regions seen before; 0 is off")
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

    max_buffered_bytes: int = Field(
        default=536_870_912, ge=1_024, description="most bytes of bodies that are held at a time, all requests together"
    )
    max_queue_regions: Positive = Field(default=256, description="most regions that wait for the device")
    max_key_regions: int = Field(
        default=0,
        ge=0,
        description="most regions of one key that wait; 0: half of the queue if there are several keys, else all of it",
    )
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
    header_timeout_s: float = Field(
        default=10.0, gt=0, le=3_600, allow_inf_nan=False, description="longest wait for a request's first headers"
    )
    device_stall_s: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="silence of the device after which it is held to be stuck and nothing is admitted",
    )
    device_grace_s: float = Field(
        default=10.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="how long the process outlives a device that is stuck, starved or lost",
    )
    shutdown_grace_s: int = Field(default=30, ge=0, le=3_600, description="time to finish admitted requests on SIGTERM")
    keep_alive_s: Positive = Field(default=30, description="how long an idle connection is kept")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="text or json, one line per event")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), description="keys, separated by commas")
    api_keys_file: Path | None = Field(
        default=None, description="file of hashed keys, one NAME sha256:HEX a line; `dynrefer key` makes them"
    )
    cors_origins: Texts = Field(default=(), description="origins whose pages may call; separated by commas, * for any")
    metrics_host: str = Field(default="127.0.0.1", min_length=1, description="address of the metrics' own port")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65_535, description="a port of their own for the metrics, without keys"
    )
    image_url_hosts: Texts = Field(
        default=(), description="hosts that image URLs may name, separated by commas; none: no image URLs"
    )
    image_url_timeout_s: float = Field(
        default=10.0, gt=0, le=3_600, allow_inf_nan=False, description="longest fetch of an image URL"
    )
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="where traces go, e.g. http://collector:4318; none: no traces",
    )

    @field_validator("api_keys", "cors_origins", "image_url_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("image_url_hosts")
    @classmethod
    def _only_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not HOST_NAME.fullmatch(host):
                raise ValueError(f"{host!r} is no host name, such as images.example.org.")
        return tuple(host.lower() for host in hosts)

    @model_validator(mode="after")
    def _room_for_one_request(self) -> Self:
        for name, one in (
            ("max_queue_regions", "max_regions"),
            ("max_key_regions", "max_regions"),
            ("max_buffered_bytes", "max_body_bytes"),
        ):
            if 0 < getattr(self, name) < getattr(self, one):
                raise ValueError(
                    f"{name} ({getattr(self, name)}) must hold one full request, {one} ({getattr(self, one)})"
                )
        return self

    @property
    def key_regions(self) -> int:
        """The bound on one key's waiting regions; 0: none."""
        several = len(self.api_keys) > 1 or self.api_keys_file is not None
        return self.max_key_regions or (max(self.max_regions, self.max_queue_regions // 2) if several else 0)


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
