"""Settings of inference: providers, and which models they have."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from pharia_kernel.config.values import Count, HttpUrl, PathValue, Secret, Table, expected, refused

ProviderType = Literal["openai", "aleph-alpha", "local"]

_NEEDED: dict[ProviderType, tuple[str, ...]] = {
    "openai": ("url", "token"),
    "aleph-alpha": ("url",),
    "local": ("model_file",),
}
_ALLOWED: dict[ProviderType, tuple[str, ...]] = {
    "openai": ("url", "token"),
    "aleph-alpha": ("url", "token"),
    "local": ("model_file", "parallel", "context", "pooling"),
}


class InferenceProvider(Table):
    """A backend for inference."""

    type: ProviderType
    url: HttpUrl | None = None
    """Base URL of its API."""
    token: Secret | None = None
    """Sent with every request; ``aleph-alpha`` sends the caller's if there is none."""
    model_file: PathValue | None = None
    """GGUF file, for ``local``."""
    parallel: Count | None = None
    """Answers that a local model generates at once; 4 if not set."""
    context: Count | None = None
    """Tokens of context for each of them; 4096 if not set."""
    pooling: Literal["model", "mean", "last", "cls"] | None = None
    """Makes a local model embed, too; ``model`` is what the file says."""

    @model_validator(mode="after")
    def _check_type(self) -> Self:
        for name in _NEEDED[self.type]:
            if getattr(self, name) is None:
                raise refused(f'is missing; providers of type = "{self.type}" need it', _key(name))
        for name in sorted(self.model_fields_set - {"type", *_ALLOWED[self.type]}):
            raise refused(f'is not for providers of type = "{self.type}"', _key(name))
        return self


def _key(field: str) -> str:
    return field.replace("_", "-")


class ModelRoute(Table):
    """Where requests for a model go."""

    provider: str
    model: str | None = None
    """Name of the model at the provider, if it is another."""


def _parse_route(value: Any) -> Any:
    if isinstance(value, str) and value:
        return {"provider": str(value)}
    if isinstance(value, dict | ModelRoute):
        return value
    raise expected('a provider, or { provider = "NAME", model = "NAME THERE" }')


Route = Annotated[ModelRoute, BeforeValidator(_parse_route)]
