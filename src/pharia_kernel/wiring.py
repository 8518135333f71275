"""Drivers as the settings want them. With ``kernel`` the only module that knows them all."""

from __future__ import annotations

import logging

from pharia_kernel.config.inference import InferenceProvider
from pharia_kernel.config.namespaces import NamespaceConfig, TeamOwnedNamespace
from pharia_kernel.config.retrieval import DocumentIndex
from pharia_kernel.config.settings import Settings
from pharia_kernel.drivers.chunking import Chunker
from pharia_kernel.drivers.inference.aleph_alpha import AlephAlphaDriver
from pharia_kernel.drivers.inference.base import InferenceDriver
from pharia_kernel.drivers.inference.credentials import CallersToken, ConfiguredToken
from pharia_kernel.drivers.inference.local import LocalDriver
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.drivers.inference.router import Route, Router
from pharia_kernel.drivers.retrieval.base import RetrievalDriver
from pharia_kernel.drivers.retrieval.remote import RemoteDocumentIndex
from pharia_kernel.drivers.tokenizers.base import TokenizerSource
from pharia_kernel.drivers.tokenizers.catalogue import Tokenizers
from pharia_kernel.drivers.tokenizers.configured import ConfiguredTokenizers, OpenAiTokenizers
from pharia_kernel.drivers.tokenizers.provider import ProviderTokenizers
from pharia_kernel.drivers.tokenizers.splitting import Splitters

log = logging.getLogger("pharia_kernel.initialization")


class CannotStart(Exception):
    """A setting can't be acted on; the message says which and why."""


# --- inference ------------------------------------------------------------------------------------


def inference(settings: Settings, providers: dict[str, InferenceDriver]) -> InferenceDriver | None:
    """The one driver that skills see, over the ``providers``."""
    if not providers:
        log.warning("no inference provider is configured: skills that use inference will fail")
        return None
    default = settings.default_inference_provider or _default_provider(settings, providers)
    log.info("inference providers: %s; default: %s", ", ".join(providers), default)
    if len(providers) == 1 and default and not settings.inference_models:
        return providers[default]
    routes = [
        Route(model, route.provider, route.model)
        for model, route in settings.inference_models.items()
    ]
    return Router(providers, routes, default)


def inference_providers(settings: Settings) -> dict[str, InferenceDriver]:
    """By name; raises ``CannotStart``."""
    providers: dict[str, InferenceDriver] = {}
    if settings.inference_url:
        providers["aleph-alpha"] = AlephAlphaDriver(settings.inference_url)
    if settings.openai_inference:
        token = ConfiguredToken(settings.openai_inference.token.get_secret_value())
        providers["openai"] = OpenAiDriver(settings.openai_inference.url, token)
    for name, config in settings.inference_providers.items():
        try:
            providers[name] = _provider(config)
        except ValueError as error:
            raise CannotStart(f"`inference-providers.{name}`: {error}") from error
    return providers


def _provider(config: InferenceProvider) -> InferenceDriver:
    if config.model_file is not None:
        return LocalDriver(
            config.model_file,
            parallel=config.parallel or 4,
            context=config.context or 4096,
            pooling=config.pooling,
        )
    assert config.url is not None  # the settings are checked
    configured = ConfiguredToken(config.token.get_secret_value()) if config.token else None
    if config.type == "aleph-alpha":
        return AlephAlphaDriver(config.url, configured)
    return OpenAiDriver(config.url, configured or CallersToken())


def _default_provider(settings: Settings, providers: dict[str, InferenceDriver]) -> str | None:
    """The original's rule first: Aleph Alpha, then OpenAI. Else the only one there is."""
    for name, configured in (
        ("aleph-alpha", settings.inference_url),
        ("openai", settings.openai_inference),
    ):
        if configured:
            return name
    return next(iter(providers)) if len(providers) == 1 else None


# --- chunking -------------------------------------------------------------------------------------


def chunker(settings: Settings) -> Chunker:
    splitters = Splitters(settings.engines)
    sources: list[TokenizerSource] = [ConfiguredTokenizers(settings.tokenizers)]
    if settings.inference_url:
        sources.append(ProviderTokenizers(settings.inference_url))
    sources.append(OpenAiTokenizers())
    return Chunker(Tokenizers(sources, splitters.check), splitters)


# --- retrieval ------------------------------------------------------------------------------------


def retrieval(
    settings: Settings, chunker: Chunker, providers: dict[str, InferenceDriver]
) -> RetrievalDriver | None:
    """Raises ``CannotStart``."""
    if settings.document_index_url:
        return RemoteDocumentIndex(settings.document_index_url)
    config = settings.document_index
    if config is None:
        return None
    # The Qdrant client takes a second to import.
    from pharia_kernel.drivers.retrieval.local.embedding import LocalEmbedders, OpenAiEmbedders
    from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
    from pharia_kernel.drivers.retrieval.local.vectors import QdrantServer

    embeds = _embedding_provider(settings, config, providers)
    embedders = (
        LocalEmbedders(embeds)
        if isinstance(embeds, LocalDriver)
        else OpenAiEmbedders(embeds[0], ConfiguredToken(embeds[1]))
    )
    qdrant = None
    if config.qdrant_url:
        key = config.qdrant_api_key
        qdrant = QdrantServer(config.qdrant_url, key.get_secret_value() if key else None)
    return LocalDocumentIndex(config.directory, embedders, chunker, qdrant=qdrant)


def _embedding_provider(
    settings: Settings, config: DocumentIndex, providers: dict[str, InferenceDriver]
) -> LocalDriver | tuple[str, str]:
    """The provider that embeds, or its URL and token: the one that is named, or the only one."""
    suitable: dict[str, LocalDriver | tuple[str, str]] = {
        name: driver
        for name, driver in providers.items()
        if isinstance(driver, LocalDriver) and driver.embeds
    }
    suitable |= {
        name: (provider.url, provider.token.get_secret_value())
        for name, provider in settings.inference_providers.items()
        if provider.type == "openai" and provider.url and provider.token
    }
    if settings.openai_inference:
        single = settings.openai_inference
        suitable["openai"] = (single.url, single.token.get_secret_value())
    name = config.embedding_provider or (next(iter(suitable)) if len(suitable) == 1 else None)
    if name not in suitable:
        known = ", ".join(suitable) or "none"
        raise CannotStart(
            "`document-index.embedding-provider` must name an inference provider of type "
            f"`openai`, or `local` with `pooling`; there are: {known}"
        )
    return suitable[name]


# --- namespaces -----------------------------------------------------------------------------------


def chosen_elsewhere(config: NamespaceConfig | None) -> bool:
    """Whether the namespace's description comes over HTTP, from somebody who may not reach
    everything that the kernel can reach."""
    return isinstance(config, TeamOwnedNamespace) and not config.config_url.startswith("file:")
