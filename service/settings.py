"""The service's settings: one frozen record from flags and DYNREFER_* variables, validated once, at start-up.

Every field has an environment variable (DYNREFER_MAX_BODY_BYTES) and, except for secrets, a flag (--max-body-bytes). A
flag takes precedence; an empty variable is one that is not set. Names carry their units. Nothing is read at import.

The descriptions say how to choose a value. They are the help of `dynrefer serve` and the table in docs/operations.md,
which `python -m tests.service.update_settings_table` writes.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX = "DYNREFER_"
# Of other commands, which may stand in the same environment: `describe --server`, `make art`.
OTHER_VARIABLES = ("KEY", "ART_CACHE")

# A module of service/integrations each, in which "-" is "_".
INTEGRATIONS = ("hugging-face", "kserve", "label-studio", "mcp", "openai", "sagemaker", "vertex", "x-anylabeling")

# Without flags, and never shown.
SECRETS = ("api_keys", "admin_keys", "label_studio_token")
# With a flag, and never shown: it may hold a password, though not in the flag.
HIDDEN = (*SECRETS, "shared_cache")

MAX_PORT = 65_535
# How platforms tell a container its port, where the user does not: those that say it to this kind of container before
# the one that all use, which may be there for another program's sake.
PLATFORM_PORTS = ("AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT")

Positive = Annotated[int, Field(ge=1)]
Texts = Annotated[tuple[str, ...], NoDecode]

# Former names of settings, which go on working.
FORMER_NAMES = {"worker_threads": "worker_processes"}

# What the URL of a Redis may say besides; all else, such as its time limits, is ours.
REDIS_OPTIONS = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

# A name with a dot whose last part is not a number, so that no IP address in any notation matches.
HOST_NAME = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)

# What Kubernetes sets in every container beside a Service, and Docker beside a linked container, named `dynrefer` or
# `dynrefer-NAME`: settings of nobody, though one may have the name of a setting, such as DYNREFER_PORT.
LINK_NAME = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S*")  # the value of PORT or NAME_PORT
LINKED_CONTAINER = re.compile(r"/[^/]+/[^/]+")  # the value of Docker's NAME, beside which stand ENV_* variables


class SettingsError(Exception):
    """A setting that cannot be used; one sentence that names it as the user gave it."""


class Settings(BaseSettings):
    """Everything about the service that can be chosen from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    model: str = Field(
        default="embedded",
        min_length=1,
        description="The model: embedded, the small one that ships, or a directory that convert or train wrote.",
    )
    device: str = Field(
        default="auto",
        min_length=1,
        description="auto, cpu, cuda or cuda:N; auto is the first GPU if there is one. Name the device where falling "
        "back to the CPU would be worse than not starting.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="auto, float32 or bfloat16; auto is bfloat16 on a GPU and float32 on a CPU. bfloat16 halves the "
        "memory of the weights. On a CPU its speed depends on the processor: with AMX it is faster, without it may be "
        "slower; measure with dynrefer bench model.",
    )
    segmenter: str = Field(
        default="embedded",
        min_length=1,
        description="What finds the object that a region's points lie on: embedded, the small segmenter of the model "
        "where it has one; none, which refuses points; or a local directory with a SAM 2 of transformers, which is far "
        "better on photographs and wants a GPU.",
    )
    finder: str = Field(
        default="embedded",
        min_length=1,
        description="What finds regions that nobody has drawn: embedded, the finder of the model where it has one; "
        "none, which refuses /v1/detect; or a local directory with a Grounding DINO, an MM-Grounding-DINO (LLMDet is "
        "one) or an OWLv2 of transformers, which are far better on photographs and want a GPU.",
    )
    converser: str = Field(
        default="embedded",
        min_length=1,
        description="What answers questions: embedded, the converser of the model where it has one; none, which "
        "refuses /v1/converse; or a local directory with a Qwen3-VL of transformers, which knows far more and wants a "
        "GPU.",
    )
    cpu_kernels: Literal["auto", "onednn", "torch"] = Field(
        default="auto",
        description="Library of the linear layers on a CPU: auto takes oneDNN where it was measured to be faster "
        "(x86-64, models of 50 million parameters and more); onednn and torch force one.",
    )
    cuda_graphs: bool = Field(
        default=True,
        description="Whether a GPU replays work that was recorded at start as CUDA graphs. Each is compared with the "
        "work itself first; turn it off to rule graphs out as the cause of a fault, or to start sooner.",
    )
    cache_bytes: int = Field(
        default=0,
        ge=0,
        description="Device memory for the features of views and regions seen before; 0 is off. Turn it on if clients "
        "send several requests about the same image.",
    )
    text_cache_bytes: int = Field(
        default=67_108_864,
        ge=0,
        description="Memory for the embeddings of words of requests, half of it the device's; 0 is off. The default "
        "holds some ten thousand words of a large model, and a hundred vocabularies of a hundred words.",
    )
    shared_cache: SecretStr | None = Field(
        default=None,
        description="Redis in which processes share what they computed of regions: redis://HOST:PORT/DB, rediss:// "
        "with TLS or unix:///PATH. None: each for itself. A password goes into the variable alone. Whoever may write "
        "there can change answers, unless there is a shared_cache_secret_file.",
    )
    shared_cache_secret_file: Path | None = Field(
        default=None,
        description="File with a secret that all these processes have, 16 bytes or more: what is found in the shared "
        "cache is used only where it was put there with the secret.",
    )
    shared_cache_timeout_ms: float = Field(
        default=20.0,
        gt=0,
        le=1_000,
        allow_inf_nan=False,
        description="Longest wait of a batch for the shared cache. Well below what a batch takes, above what the "
        "network and a batch's representations need.",
    )
    shared_cache_ttl_s: int = Field(
        default=86_400,
        ge=1,
        le=31_536_000,
        description="How long what was put into the shared cache stays there; its memory is bounded by Redis's own "
        "maxmemory.",
    )
    shared_cache_queue_bytes: Positive = Field(
        default=67_108_864,
        description="Most memory of what waits to be written to the shared cache; what does not fit is not written.",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; 0.0.0.0 for every interface, as in a container.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=MAX_PORT,
        description="Port to listen on; 0 takes a free one and prints it. Without it the platform's choice counts: "
        + ", ".join(PLATFORM_PORTS)
        + ".",
    )
    unix_socket: Path | None = Field(
        default=None,
        description="Unix socket to listen on instead of host and port, such as /run/dynrefer/http.sock. Its owner and "
        "group may connect (mode 660), within what its folder allows.",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path prefix that a proxy in front leaves in the requests, such as /region. A proxy that strips "
        "its prefix needs no setting.",
    )

    integrations: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Other systems whose requests are answered too, separated by commas: "
        + ", ".join(INTEGRATIONS)
        + ". None: the paths of this service alone.",
    )

    keyless_integrations: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Those of integrations whose requests need no key, although there are keys, separated by commas: "
        "where the platform in front checks who calls, and nobody else reaches the service.",
    )

    max_body_bytes: int = Field(
        default=33_554_432,
        ge=1_024,
        description="Largest request body. Base64 makes an image a third larger.",
    )
    # Pillow's own bound is set to this one when a process starts to decode.
    max_image_pixels: int = Field(
        default=50_000_000,
        ge=1,
        le=1_000_000_000,
        description="Largest image, width x height, checked before it is decoded. Decoded, a pixel takes 3 to 4 bytes.",
    )
    max_json_values: Positive = Field(
        default=100_000, description="Most values in a request's JSON; far above any real request."
    )
    max_regions: Positive = Field(
        default=64,
        description="Most regions in a request. At most max_queue_regions: a request is admitted whole.",
    )
    max_images: Positive = Field(
        default=16,
        description="Most images in a request of several. All of them share its max_body_bytes and max_regions.",
    )
    max_found_regions: Positive = Field(
        default=64,
        description="Largest max_regions of a request that finds regions, each of which may be described in it. It is "
        "less where the queue, or a key's part of it, has no room for so many and one.",
    )
    max_find_names: Positive = Field(default=100, description="Most names that a request may look for.")
    max_find_words: Positive = Field(
        default=16, description="Most synonyms of such a name, and most words that are not meant by it."
    )
    max_phrase_chars: Positive = Field(default=512, description="Longest sentence to be grounded, in characters.")
    max_messages: Positive = Field(
        default=32, description="Most messages of a conversation, the client's and the assistant's."
    )
    max_message_chars: Positive = Field(
        default=2_000,
        description="Longest message of a conversation, and longest of the answers allowed, in characters.",
    )
    max_answers: Positive = Field(default=32, description="Most answers that a question may allow.")
    max_reply_tokens: Positive = Field(
        default=256, description="Largest max_tokens of an answer; each takes the device a step."
    )
    max_top_k: Positive = Field(default=1_000, description="Largest top_k; bounds the size of a response.")
    max_controls: Positive = Field(default=16, description="Most control words in a request.")
    max_control_chars: Positive = Field(default=64, description="Longest control word, in characters.")
    max_captions: Positive = Field(default=5, description="Most captions of a region (num_captions).")
    max_beams: Positive = Field(
        default=8, description="Most beams of a caption's search (num_beams), each of which costs about the same."
    )
    max_vocabulary_words: Positive = Field(
        default=2_000,
        description="Most words in a request's vocabulary, all lists and synonyms counted. A word that is new costs a "
        "run of the text tower; one that was asked before next to nothing.",
    )
    max_vocabulary_chars: Positive = Field(default=64, description="Longest such word, in characters.")
    max_prompt_points: Positive = Field(
        default=2_000,
        description="Most points of a region's polygon or scribble. Looking for crossings costs the square of it: "
        "0.2 s for 2,000.",
    )
    vocabularies: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Files of vocabularies that clients may name, or folders of such (*.json), separated by commas; "
        "`dynrefer vocabulary check FILE` checks one. Read at start-up.",
    )
    max_id_chars: Positive = Field(default=128, description="Longest region id, in characters.")

    max_buffered_bytes: int = Field(
        default=536_870_912,
        ge=1_024,
        description="Most bytes of bodies and of images fetched by URL in memory at the same time, over all requests; "
        "beyond it the answer is 429. Choose it by the memory of the machine.",
    )
    max_key_buffered_bytes: int = Field(
        default=0,
        ge=0,
        description="Most such bytes of one API key's requests. 0: half of them if there are several keys, else all.",
    )
    max_queue_regions: Positive = Field(
        default=256,
        description="Most regions that wait for the device; beyond it the answer is 429. About as many as the device "
        "describes within request_timeout_s.",
    )
    max_key_regions: int = Field(
        default=0,
        ge=0,
        description="Most waiting regions of one API key. 0: half of the queue if there are several keys, else all.",
    )
    batching: Literal["auto", "continuous", "whole"] = Field(
        default="auto",
        description="auto, continuous or whole: whether regions join and leave a batch at any time, or batch follows "
        "batch. auto is continuous on a GPU and whole on a CPU.",
    )
    max_batch_regions: Positive | None = Field(
        default=None,
        description="Most regions in a batch, or on the device at a time with continuous batching. None: measured on a "
        "GPU, 16 on a CPU; lower it there for a large model.",
    )
    max_batch_views: Positive | None = Field(
        default=None,
        description="Most views in a batch, or of regions that join one together. None: measured on a GPU, 48 "
        "on a CPU.",
    )
    batch_wait_ms: float = Field(
        default=2.0,
        ge=0,
        le=1_000,
        allow_inf_nan=False,
        description="Longest wait of a whole batch for regions whose images are still being prepared; a tenth of the "
        "last batch's time, at most 100 ms, where that is longer. A lone request never waits.",
    )
    worker_processes: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="Processes that decode images and cut views; as many again work on large images. None: 2 where the "
        "model runs on a CPU, which it needs for itself; beside a GPU all cores but two. 0: two threads instead, for "
        "debugging; nothing stops a hostile image then.",
    )
    image_cpu_s: float = Field(
        default=2.5,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="Most CPU time that decoding an image may take, in seconds; beyond it the answer is 422. More in "
        "proportion where max_image_pixels is above 50 million.",
    )
    image_wall_s: float = Field(
        default=5.0,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="The same on the clock, once its turn has come. Raise it where image work shares its cores with "
        "much else.",
    )
    worker_memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Most memory that a worker process may take for an image; beyond it the answer is 422. 0: 16 bytes "
        "for each of max_image_pixels, and 256 MiB. So many times twice worker_processes is the most for all images.",
    )

    request_timeout_s: float = Field(
        default=60.0,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="Deadline of a request, beyond which the answer is 504; clients may ask for a shorter one with "
        "X-Request-Timeout.",
    )
    header_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="Time for a request's headers to arrive; guards against slow clients that hold connections.",
    )
    device_stall_s: float = Field(
        default=120.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Time without a heartbeat after which the device is considered stuck and the service unready. "
        "Above the longest stage of a batch.",
    )
    device_grace_s: float = Field(
        default=10.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="How long the process stays up, unready, with a device that is stuck, out of memory or lost. Long "
        "enough for a load balancer to notice.",
    )
    shutdown_grace_s: int = Field(
        default=30,
        ge=0,
        le=3_600,
        description="Time for admitted requests to finish after SIGTERM. Shorter than the supervisor waits before it "
        "kills the process.",
    )
    keep_alive_s: Positive = Field(
        default=30,
        description="How long an idle connection is kept. Longer than a proxy in front keeps it, so that the proxy "
        "closes first.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error; debug logs probes too."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="text to read, or json, one object per line, to collect."
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="API keys, separated by commas. No keys: the service is open. Prefer api_keys_file, which holds no "
        "key that could be stolen.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="File of hashed API keys, one NAME sha256:HEX per line; `dynrefer key NAME >> FILE` adds one.",
    )
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Keys of administrators, separated by commas: they may let another model serve, and do what an API "
        "key may. No such keys: nobody can. Prefer admin_keys_file.",
    )
    admin_keys_file: Path | None = Field(
        default=None,
        description="File of hashed keys of administrators, in the form of api_keys_file.",
    )
    models_dir: Path | None = Field(
        default=None,
        description="Folder of the models that an administrator may let serve. None: embedded and the model that the "
        "service was started with.",
    )
    cors_origins: Texts = Field(
        default=(),
        description="Origins whose web pages may call the service, separated by commas; * for any, none for no CORS "
        "headers.",
    )
    metrics_host: str = Field(
        default="127.0.0.1", min_length=1, description="Address of the separate metrics port; used with metrics_port."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=MAX_PORT,
        description="Separate port for /metrics, which needs no key there and is gone from the main port. Set it where "
        "the scraper has no key.",
    )
    image_url_hosts: Texts = Field(
        default=(),
        description="Hosts whose images may be given as URLs, separated by commas; none: no image URLs. Name "
        "only hosts that you trust.",
    )
    image_url_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="Time limit for fetching an image, redirects included. Well below request_timeout_s.",
    )
    label_studio_url: str = Field(
        default="",
        pattern=r"^(https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/-]*)?)?$",
        description="Your Label Studio, as this service reaches it, such as http://label-studio:8080: images that it "
        "holds are fetched from there. None: only those in a task's data itself, and of image_url_hosts.",
    )
    label_studio_token: SecretStr | None = Field(
        default=None,
        description="A personal access token of a user of Label Studio who may see the projects, or a legacy token, to "
        "fetch images with.",
    )
    label_studio_corrections: Path | None = Field(
        default=None,
        description="Folder in which annotations that Label Studio reports to /label-studio/webhook are collected, for "
        "dynrefer train --from-corrections. None: they are not.",
    )
    label_studio_corrections_bytes: Positive = Field(
        default=10 << 30,
        description="Most bytes of that folder, images included. What would make it larger is not collected, and an "
        "error in the log says so.",
    )
    engine: Literal["thread", "ray"] = Field(
        default="thread",
        description="thread: the model runs in this process, on one device. ray: it runs in replicas, on as many "
        "devices and machines as a Ray cluster has. Needs pip install 'dynrefer[ray]'.",
    )
    replicas: Positive = Field(
        default=1,
        description="Replicas of the model, with engine ray; where max_replicas is set, those at start.",
    )
    min_replicas: Positive | None = Field(
        default=None, description="Fewest replicas, where their number follows the load. None: 1."
    )
    max_replicas: Positive | None = Field(
        default=None,
        description="Most replicas. None: their number stays as it is; else it follows the regions that wait or run.",
    )
    regions_per_replica: Positive = Field(
        default=32,
        description="Waiting and running regions that one replica should have, where their number follows the load.",
    )
    upscale_delay_s: float = Field(
        default=10.0, ge=0, le=3_600, description="How long more replicas must be wanted before they are started."
    )
    downscale_delay_s: float = Field(
        default=300.0, ge=0, le=86_400, description="How long fewer replicas must be wanted before some are ended."
    )
    replica_cpus: float = Field(
        default=1.0,
        gt=0,
        le=256,
        description="Cores that a replica takes of the cluster, and threads of its model where it runs on a CPU.",
    )
    replica_gpus: float | None = Field(
        default=None,
        ge=0,
        le=64,
        description="GPUs that a replica takes: 0.5 lets two share one. None: one where the cluster has any, else "
        "none.",
    )
    ray_address: str = Field(
        default="",
        description="host:port of a Ray cluster to join, or auto for one on this machine. None: one is started here, "
        "for as long as the service runs.",
    )
    ray_name: str = Field(
        default="dynrefer",
        pattern=r"^[a-z][a-z0-9-]{0,40}$",
        description="What the replicas are called in a cluster that is joined; two services in one need two names.",
    )
    object_store_bytes: int = Field(
        default=0,
        ge=0,
        description="Shared memory of a cluster that is started here, through which views reach replicas. 0: a part of "
        "what /dev/shm has free.",
    )
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="OpenTelemetry collector for traces, such as http://collector:4318; none: no traces. Needs "
        "pip install 'dynrefer[trace]'.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment without the variables of links."""
        links = {name.lower() for name in link_variables()}
        assert isinstance(env_settings, EnvSettingsSource)
        env_settings.env_vars = {name: value for name, value in env_settings.env_vars.items() if name not in links}
        return init_settings, env_settings

    @field_validator("host", "metrics_host", mode="before")
    @classmethod
    def _without_brackets(cls, host: object) -> object:
        """An IPv6 address as a URL has it is taken as well."""
        return host[1:-1] if isinstance(host, str) and re.fullmatch(r"\[.+\]", host) else host

    @field_validator(
        "api_keys",
        "admin_keys",
        "cors_origins",
        "image_url_hosts",
        "integrations",
        "keyless_integrations",
        "vocabularies",
        mode="before",
    )
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
                raise ValueError(f"{host!r} is not a host name, such as images.example.org.")
        return tuple(host.lower() for host in hosts)

    @field_validator("shared_cache")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and (flaw := flaw_of_redis_url(url.get_secret_value())):
            raise ValueError(flaw)
        return url

    @field_validator("integrations", "keyless_integrations")
    @classmethod
    def _only_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in INTEGRATIONS:
                raise ValueError(f"{name!r} is none of {', '.join(INTEGRATIONS)}.")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _keyless_ones_are_on(self) -> Self:
        for name in self.keyless_integrations:
            if name not in self.integrations:
                raise ValueError(f"keyless_integrations names {name}, which integrations does not switch on")
        return self

    @model_validator(mode="after")
    def _room_for_one_request(self) -> Self:
        for name, one in (
            ("max_queue_regions", "max_regions"),
            ("max_key_regions", "max_regions"),
            ("max_buffered_bytes", "max_body_bytes"),
            ("max_key_buffered_bytes", "max_body_bytes"),
        ):
            if 0 < getattr(self, name) < getattr(self, one):
                raise ValueError(
                    f"{name} ({getattr(self, name)}) must hold one full request, {one} ({getattr(self, one)})"
                )
        return self

    @model_validator(mode="after")
    def _replicas_fit(self) -> Self:
        if self.engine == "thread":
            for name in ("replicas", "min_replicas", "max_replicas", "replica_gpus", "ray_address"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is for replicas, which only engine ray has")
        fewest, most = self.min_replicas or 1, self.max_replicas
        if self.min_replicas is not None and most is None:
            raise ValueError("min_replicas needs max_replicas, between which their number follows the load")
        if most is not None and not fewest <= self.replicas <= most:
            raise ValueError(
                f"replicas ({self.replicas}) must be from min_replicas ({fewest}) to max_replicas ({most})"
            )
        return self

    def without_secrets(self) -> Self:
        """For processes that need none."""
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].get_default(call_default_factory=True) for name in SECRETS})

    @property
    def key_regions(self) -> int:
        """Most waiting regions of one key; 0: no limit."""
        several = self._several_keys
        return self.max_key_regions or (max(self.max_regions, self.max_queue_regions // 2) if several else 0)

    @property
    def found_regions(self) -> int:
        """Largest max_regions of a request that finds: beside the search there has to be room for them in the queue."""
        room = min(self.max_queue_regions, self.key_regions or self.max_queue_regions) - 1
        return max(1, min(self.max_found_regions, room))

    @property
    def key_buffered_bytes(self) -> int:
        """Most bytes that the requests of one key hold; 0: no limit."""
        several = self._several_keys
        return self.max_key_buffered_bytes or (max(self.max_body_bytes, self.max_buffered_bytes // 2) if several else 0)

    @property
    def unidentified_buffered_bytes(self) -> int:
        """Most bytes that requests hold together which came with their keys in their bodies: never all, for anybody can
        send one."""
        part = min(self.key_buffered_bytes or self.max_buffered_bytes, self.max_buffered_bytes // 2)
        return max(self.max_body_bytes, part)

    @property
    def _several_keys(self) -> bool:
        return len(self.api_keys) > 1 or self.api_keys_file is not None


def flaw_of_redis_url(text: str) -> str:
    """What is wrong with the URL of a Redis, without any of it; empty if nothing is."""
    forms = "write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return f"it is no URL; {forms}."
    if url.scheme not in ("redis", "rediss", "unix") or url.fragment or port == 0:
        return f"it is none of a Redis; {forms}."
    if url.scheme == "unix":
        if url.hostname or not url.path.startswith("/"):
            return "the path of a Unix socket begins at the root, with three slashes: unix:///run/redis.sock."
    elif not url.hostname:
        return f"it names no host; {forms}."
    elif not re.fullmatch(r"(/[0-9]*)?", url.path):
        return f"behind the host there is the number of a database and nothing else; {forms}."
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if unknown := [name for name in options if name not in REDIS_OPTIONS]:
        return f"{unknown[0]!r} is none of its options, which are {', '.join(REDIS_OPTIONS)}."
    return "" if re.fullmatch(r"[0-9]{1,5}", options.get("db", "0")) else "db is the number of a database."


def flag_names() -> tuple[str, ...]:
    """Fields that have a flag: all but the secrets, because every user of a machine can read its command lines."""
    return tuple(name for name in Settings.model_fields if name not in SECRETS)


def load_settings(flags: Mapping[str, str] | None = None) -> Settings:
    """Settings from the given flags (field name -> text as typed) over the environment over the defaults.

    Raises SettingsError for an unknown DYNREFER_* variable or an invalid value.
    """
    _reject_unknown_variables()
    if flags and re.match(r"[a-z]+://[^/?#]*@", flags.get("shared_cache", "")):
        raise SettingsError(
            "--shared-cache holds a user name or a password, and every user of this machine can read command lines: "
            f"set {PREFIX}SHARED_CACHE instead."
        )
    given: Mapping[str, Any] = {**_formerly_named(), **(flags or {})}
    if "port" not in given and not _is_given("PORT"):
        given = {**_port_of_the_platform(), **given}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_sentence(error, given)) from None


def _is_given(setting: str) -> bool:
    """Whether there is a variable of a setting that is not a link's."""
    links = link_variables()
    return any(name.upper() == PREFIX + setting and value and name not in links for name, value in os.environ.items())


def _port_of_the_platform() -> dict[str, int]:
    """The port from the first of `PLATFORM_PORTS` that is set; PORT may be a link's address too, which is none of ours.

    Raises SettingsError for what is no port.
    """
    for name in PLATFORM_PORTS:
        value = os.environ.get(name, "").strip()
        if not value or LINK_ADDRESS.fullmatch(value):
            continue
        if not re.fullmatch(r"[0-9]{1,5}", value) or int(value) > MAX_PORT:
            raise SettingsError(f"{name} {value!r} is invalid: a port is a number from 0 to {MAX_PORT}.")
        return {"port": int(value)}
    return {}


def _formerly_named() -> dict[str, str]:
    """Settings from variables of former names, unless the present one is there too."""
    variables = {name.upper(): value for name, value in os.environ.items() if value}
    return {
        name: variables[PREFIX + former.upper()]
        for former, name in FORMER_NAMES.items()
        if PREFIX + former.upper() in variables and PREFIX + name.upper() not in variables
    }


def link_variables() -> list[str]:
    """The DYNREFER_* variables that Kubernetes or Docker has set for a Service or container of that name."""
    given = {name: value for name, value in os.environ.items() if value and name.upper().startswith(PREFIX)}
    values = {name.upper(): value for name, value in given.items()}

    def is_link(name: str) -> bool:
        short = name.upper().removeprefix(PREFIX)
        named = _is_named_link(short, given[name])
        return named or LINK_NAME.fullmatch(short) is not None or _is_passed_on(short, values)

    return sorted(filter(is_link, given))


def _is_named_link(short: str, value: str) -> bool:
    """Whether it is the variable that names a link's address or container, by its value."""
    if short == "PORT" or short.endswith("_PORT"):
        return LINK_ADDRESS.fullmatch(value) is not None
    return (short == "NAME" or short.endswith("_NAME")) and LINKED_CONTAINER.fullmatch(value) is not None


def _is_passed_on(short: str, values: Mapping[str, str]) -> bool:
    """Whether it is a variable of the container that a link leads to, which Docker passes on beside the link's name."""
    link, found, _ = short.partition("ENV_")
    return bool(found) and LINKED_CONTAINER.fullmatch(values.get(f"{PREFIX}{link}NAME", "")) is not None


def _reject_unknown_variables() -> None:
    known = [name.upper() for name in (*Settings.model_fields, *FORMER_NAMES)]
    allowed = {*known, *OTHER_VARIABLES}
    links = link_variables()
    for name, value in os.environ.items():
        given = name.upper()
        if value and name not in links and given.startswith(PREFIX) and given.removeprefix(PREFIX) not in allowed:
            # Compared without the prefix, which would make all names similar.
            nearest = difflib.get_close_matches(given.removeprefix(PREFIX), known, n=1)
            hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else "."
            raise SettingsError(f"unknown setting {name}{hint}")


def _sentence(error: ValidationError, flags: Mapping[str, Any]) -> str:
    """The first error, under the name that the user gave. Secret values are never shown."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    field = str(first["loc"][0])
    name = "--" + field.replace("_", "-") if field in flags else PREFIX + field.upper()
    shown = "" if field in HIDDEN else f" {first['input']!r}"
    return f"{name}{shown} is invalid: {message[:1].lower()}{message[1:]}"
