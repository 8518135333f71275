"""Providers of inference and their models."""

from pathlib import Path

from pharia_kernel.config.inference import InferenceProvider, ModelRoute

from .conftest import Load, Problems


def test_providers_and_models(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    settings = load(
        """
        [inference-providers.cloud]
        type = "openai"
        url = "http://cloud/v1"
        token-file = "secret"
        [inference-models]
        "llama-*" = "cloud"
        fast = { provider = "cloud", model = "llama-3" }
        """
    )
    cloud = settings.inference_providers["cloud"]
    assert cloud.token
    assert cloud.token.get_secret_value() == "hunter2"
    assert settings.inference_models == {
        "llama-*": ModelRoute(provider="cloud"),
        "fast": ModelRoute(provider="cloud", model="llama-3"),
    }
    assert "hunter2" not in settings.describe()


def test_from_the_environment(load: Load) -> None:
    settings = load(
        INFERENCE_PROVIDERS__GPU__TYPE="aleph-alpha",
        INFERENCE_PROVIDERS__GPU__URL="http://aa",
        DEFAULT_INFERENCE_PROVIDER="gpu",
    )
    assert settings.inference_providers == {
        "gpu": InferenceProvider(type="aleph-alpha", url="http://aa")
    }


def test_the_single_providers_have_names(load: Load) -> None:
    settings = load(
        'inference-url = "http://aa"\n[inference-models]\nfast = "openai"\nslow = "aleph-alpha"',
        OPENAI_INFERENCE__URL="http://o",
        OPENAI_INFERENCE__TOKEN="t",
    )
    assert settings.provider_names == ["aleph-alpha", "openai"]


def test_what_a_type_needs_and_does_not_have(problems: Problems) -> None:
    assert problems('[inference-providers.a]\ntype = "openai"\nurl = "http://x"') == [
        "inference-providers.a.token (config.toml): "
        'is missing; providers of type = "openai" need it'
    ]
    assert problems('[inference-providers.a]\ntype = "local"\nmodel-file = "x"\ntoken = "t"') == [
        'inference-providers.a.token (config.toml): is not for providers of type = "local"'
    ]


def test_unknown_types_and_keys(problems: Problems) -> None:
    assert problems('[inference-providers.a]\ntype = "opnai"') == [
        "inference-providers.a.type (config.toml): "
        "expected 'openai', 'aleph-alpha' or 'local', got \"opnai\""
    ]
    assert problems(
        '[inference-providers.a]\ntype = "local"\nmodel-file = "x"\nmodelfile = "y"'
    ) == [
        "inference-providers.a.modelfile (config.toml): unknown key; "
        "did you mean inference-providers.a.model-file?"
    ]


def test_a_model_of_nobody(problems: Problems) -> None:
    assert problems(
        '[inference-providers.a]\ntype = "local"\nmodel-file = "x"\n[inference-models]\nfast = "b"'
    ) == ["inference-models.fast (config.toml): there is no inference provider `b`; known are: a"]
    assert problems(DEFAULT_INFERENCE_PROVIDER="b") == [
        "DEFAULT_INFERENCE_PROVIDER (environment): there is no inference provider `b`; "
        "known are: none"
    ]
