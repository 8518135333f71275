"""All settings of the kernel, with their defaults and what follows from them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from pharia_kernel.config.authorization import ApiKey, Oidc
from pharia_kernel.config.describe import describe
from pharia_kernel.config.inference import InferenceProvider, Route
from pharia_kernel.config.namespaces import NamespaceConfig, NamespaceName
from pharia_kernel.config.outbound import Outbound
from pharia_kernel.config.retrieval import DocumentIndex
from pharia_kernel.config.sources import KeyPath, Origin
from pharia_kernel.config.values import (
    Address,
    AddressValue,
    CorsOrigin,
    Count,
    Duration,
    DurationOrZero,
    FeatureSet,
    FromEnv,
    HttpUrl,
    LogFilter,
    LogLevel,
    NoDuplicates,
    OtlpEndpoint,
    PathValue,
    Ratio,
    Secret,
    Size,
    SizeOrZero,
    Table,
    Text,
    WholeNumber,
    parse_log_level,
    refused,
)
from pharia_kernel.drivers.tokenizers.configured import parse_setting

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """``$XDG_CACHE_HOME/pharia-kernel``, else ``~/.cache/pharia-kernel``."""
    # Relative paths are to be ignored, says the XDG specification.
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        home = environ.get("HOME")
        try:
            base = (Path(home) if home else Path.home()) / ".cache"
        except RuntimeError:
            raise refused(
                "must be set, because there is no home directory to put the cache in"
            ) from None
    return base / "pharia-kernel"


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may keep busy: its affinity, and the processor time that its control
    group (version 2) has.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return min(count, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # another system, or no limit (`max`)
        return count


def _no_provider(name: str, known: list[str]) -> str:
    return f"there is no inference provider `{name}`; known are: {', '.join(known) or 'none'}"


OtlpProtocol = Literal["grpc", "http/protobuf"]
ProviderName = NamespaceName
"""The same rule: lower case, digits, single hyphens."""


def _check_tokenizer(value: str) -> str:
    try:
        parse_setting(value)
    except ValueError as error:
        raise refused(str(error)) from None
    return value


TokenizerSetting = Annotated[Text, AfterValidator(_check_tokenizer)]
Origins = Annotated[list[CorsOrigin], FromEnv, NoDuplicates]


@dataclass(frozen=True)
class Provenance:
    """Where each key was written; it does not count when settings are compared."""

    origins: dict[KeyPath, Origin] = field(default_factory=dict, compare=False)


class OpenAiInference(Table):
    """An OpenAI-compatible backend."""

    url: HttpUrl
    token: Secret
    """Sent with every request; the callers' tokens are not."""


class Settings(Table):
    """The effective configuration. Durations are in seconds, sizes in bytes."""

    # --- listeners ---
    kernel_address: AddressValue = Address("0.0.0.0", 8081)  # noqa: S104
    metrics_address: AddressValue = Address("0.0.0.0", 9000)  # noqa: S104
    max_body_size: Size = 50 * MIB
    cors_allow_origins: Origins = Field(default_factory=list)
    """``*`` allows every origin, but none with credentials."""
    drain_timeout: DurationOrZero = 30.0
    """How long running skills may take to finish after the kernel was told to stop."""

    # --- backends ---
    inference_url: HttpUrl | None = None
    """Aleph Alpha inference; wins over ``openai_inference``."""
    openai_inference: OpenAiInference | None = None
    inference_providers: dict[ProviderName, InferenceProvider] = Field(default_factory=dict)
    inference_models: dict[str, Route] = Field(default_factory=dict)
    """Model, or pattern of models, to provider."""
    default_inference_provider: ProviderName | None = None
    """For models that no entry of ``inference_models`` matches."""
    tokenizers: dict[str, TokenizerSetting] = Field(default_factory=dict)
    """Model to ``tokenizer.json`` or ``tiktoken:ENCODING``."""
    document_index_url: HttpUrl | None = None
    """A Document Index API elsewhere; wins over ``document_index``."""
    document_index: DocumentIndex | None = None

    # --- authorization ---
    authorization_url: HttpUrl | None = None
    authorization_cache: DurationOrZero = 30.0
    """How long the authorization service need not be asked again about a token."""
    authorization_grace: DurationOrZero = 60.0
    """How much longer an accepted token stays so while the service cannot be asked."""
    api_keys: dict[NamespaceName, ApiKey] = Field(default_factory=dict)
    oidc: Oidc | None = None

    # --- skills ---
    outbound: Outbound = Field(default_factory=Outbound)
    """For URLs in descriptions that are fetched over HTTP."""
    namespaces: dict[NamespaceName, NamespaceConfig] = Field(default_factory=dict)
    namespace_update_interval: Duration = 10.0
    namespace_fetch_timeout: Duration = 10.0
    """For the descriptions of namespaces at http(s) URLs."""
    unload_broken_namespaces: bool = False
    """As the original did: a wrong description takes the namespace's skills away."""
    test_skills: bool = True
    """Serve the built-in skills and tools of the namespace ``test-beta``."""
    validate_input: bool = False
    """Check inputs against the skill's own schema before it runs."""
    pharia_ai_feature_set: FeatureSet = "1"

    # --- runs ---
    engines: Count = Field(default_factory=cores)
    run_timeout: Duration = 600.0
    # A Python guest needs about eight times the size of the JSON that it parses, so this is what
    # the largest body (50 MiB) takes, with room for the interpreter.
    skill_memory_limit: Size = 512 * MIB
    skill_output_limit: SizeOrZero = 64 * KIB
    """Captured standard output and error of one run."""
    max_runs_per_engine: Count = 1000
    max_runs_per_skill: Count = 1000
    run_queue_length: Annotated[WholeNumber, Field(ge=0)] = 1000
    """Runs that wait for a place; more are refused."""
    quarantine_after: Count = 3
    """Engine deaths within ``quarantine_window`` after which their cause is not run any more."""
    quarantine_window: Duration = 600.0

    # --- compiler and caches ---
    compile_timeout: Duration = 180.0
    compile_memory_limit: Size = 4 * GIB
    compile_jobs: Count = 1
    wasmtime_cache_dir: PathValue = Field(default_factory=lambda: default_cache_dir(os.environ))
    wasmtime_cache_size_request: Size | None = None
    wasmtime_cache_size_limit: Size | None = None
    memory_request: Size | None = None
    memory_limit: Size | None = None
    use_pooling_allocator: bool = True

    # --- telemetry ---
    log_level: LogLevel = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    otel_endpoint: OtlpEndpoint | None = None
    otel_protocol: OtlpProtocol | None = None
    """None: gRPC, or HTTP if the endpoint is a URL."""
    otel_sampling_ratio: Ratio = 0.1
    otel_gen_ai_content_capture: bool = False
    console_runs: Annotated[WholeNumber, Field(ge=0)] = 200
    """Runs that are kept in memory for the console; 0: none."""

    _provenance: Provenance = PrivateAttr(default_factory=Provenance)

    @property
    def artifact_cache_size(self) -> int:
        """Bytes of compiled components kept on disk."""
        return self.wasmtime_cache_size_request or self.wasmtime_cache_size_limit or 10 * GIB

    @property
    def skill_cache_size(self) -> int:
        """Bytes of compiled components kept loaded."""
        return (self.memory_request or self.memory_limit or 4 * GIB) // 2

    @property
    def log_filter(self) -> LogFilter:
        return parse_log_level(self.log_level)

    @property
    def otlp_protocol(self) -> OtlpProtocol:
        """How traces are sent: as told, or as the endpoint is written."""
        if self.otel_protocol is not None:
            return self.otel_protocol
        is_url = "://" in (self.otel_endpoint or "")
        return "http/protobuf" if is_url else "grpc"

    @model_validator(mode="after")
    def _check_otlp(self) -> Self:
        is_url = self.otel_endpoint is None or "://" in self.otel_endpoint
        if self.otlp_protocol == "http/protobuf" and not is_url:
            raise refused("must be an http:// or https:// URL for http/protobuf", "otel-endpoint")
        return self

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        known = self.provider_names
        for model, route in self.inference_models.items():
            if route.provider not in known:
                raise refused(_no_provider(route.provider, known), "inference-models", model)
        default = self.default_inference_provider
        if default is not None and default not in known:
            raise refused(_no_provider(default, known), "default-inference-provider")
        return self

    @property
    def provider_names(self) -> list[str]:
        """Names that ``inference_models`` and ``default_inference_provider`` may use: the
        configured ones, and those of the two single-provider settings."""
        single = {"aleph-alpha": self.inference_url, "openai": self.openai_inference}
        return [*self.inference_providers, *(name for name, given in single.items() if given)]

    def with_origins(self, origins: dict[KeyPath, Origin]) -> Self:
        """Remember for ``describe`` where the keys were written."""
        self._provenance.origins.update(origins)
        return self

    def describe(self) -> str:
        """The effective configuration as TOML, secrets masked, with the source of each key."""
        return describe(self.model_dump(mode="json", by_alias=True), self._provenance.origins)
