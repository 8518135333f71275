from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pharia_kernel.config import Address, ConfigError, Settings
from pharia_kernel.config import load as load_settings
from pharia_kernel.config.settings import cores

from .conftest import Load

GIB = 1024**3

EVERYTHING = """
kernel-address = "[::1]:1"
metrics-address = "localhost:2"
max-body-size = "1MiB"
cors-allow-origins = ["https://a", "https://b"]
drain-timeout = "0s"
inference-url = "http://inference"
document-index-url = "http://index"
authorization-url = "http://iam"
authorization-cache = "0s"
authorization-grace = "5m"
namespace-update-interval = "1m"
namespace-fetch-timeout = "5s"
unload-broken-namespaces = true
test-skills = false
validate-input = true
pharia-ai-feature-set = "BETA"
engines = 3
run-timeout = "1h30m"
skill-memory-limit = "1GiB"
skill-output-limit = 0
max-runs-per-engine = 1
max-runs-per-skill = 2
run-queue-length = 0
quarantine-after = 4
quarantine-window = "1.5s"
compile-timeout = "2m"
compile-memory-limit = "8GiB"
compile-jobs = 2
wasmtime-cache-dir = "/cache"
wasmtime-cache-size-request = "1GB"
wasmtime-cache-size-limit = "2GB"
memory-request = "6Gi"
memory-limit = "8Gi"
use-pooling-allocator = false
log-level = "info,pharia_kernel.http=debug"
log-format = "json"
otel-endpoint = "http://otel:4318"
otel-protocol = "grpc"
otel-sampling-ratio = 1
otel-gen-ai-content-capture = true
console-runs = 5

default-inference-provider = "cloud"

[openai-inference]
url = "http://openai"
token = "********"

[inference-providers.cloud]
type = "openai"
url = "http://cloud"
token = "********"

[inference-providers.laptop]
type = "local"
model-file = "models/tiny.gguf"
parallel = 2
context = 512
pooling = "last"

[inference-models]
"llama-*" = "cloud"
fast = { provider = "laptop", model = "tiny" }

[document-index]
directory = "documents"
embedding-provider = "cloud"
embedding-model = "e5"
qdrant-url = "http://qdrant"
qdrant-api-key = "********"

[outbound]
allow = ["mcp.example.com", "*.internal", "10.1.0.0/16", "localhost:8080"]
only-allowed = true
block-private-addresses = true

[api-keys.ci]
hash = "sha256:00000000000000000000000000000000000000000000000000000000000000ff"
permissions = ["run", "deploy"]
namespaces = ["watch", "team"]
expires = 2027-01-31

[oidc]
issuer = "https://login"
audience = "kernel"
algorithms = ["ES512"]
jwks-url = "https://login/keys"
clock-skew = "5s"
permissions-claim = "scope"
roles-claim = "realm_access.roles"
roles.operator = { permissions = ["admin"] }
roles.developer = { permissions = ["run"], namespaces = ["*"] }
forward-token = true

[tokenizers]
llama-3 = "llama.json"
gpt = "tiktoken:o200k_base"

[namespaces.watch]
directory = "skills"
native-tools = ["add"]

[namespaces.in-place]
path = 'a "quoted" \\ pąth'
skills = [
    { name = "a" },
    { type = "chat", name = "b", version = "1", model = "m", system_prompt = "two\\nlines\\u007f" },
]

[namespaces.oci]
skills = []
registry = "ghcr.io"
registry-user = "me"
registry-password = "********"
registry-ca-file = "ca.pem"
registry-timeout = "5s"
base-repository = "team/skills"

[namespaces.local-registry]
skills = []
registry = "localhost:5000"
registry-plain-http = true
registry-docker-config = "default"
signature-keys = ["team.pub"]
signature-trust-root = "trusted_root.json"
signature-identities = [{ issuer = "https://ci", subject-regex = "https://git/.*" }]

[namespaces.team]
config-url = "https://git/namespace.toml"
config-access-token = "********"
path = "x"
mcp = 1
""".replace("mcp = 1\n", "")


def test_defaults() -> None:
    settings = Settings()
    assert settings.kernel_address == Address("0.0.0.0", 8081)
    assert settings.metrics_address == Address("0.0.0.0", 9000)
    assert settings.namespaces == {}
    assert settings.namespace_update_interval == 10
    assert settings.engines >= 1
    assert settings.run_timeout == 600
    assert settings.skill_memory_limit == 512 * 1024**2
    assert settings.max_body_size == 50 * 1024**2
    assert settings.cors_allow_origins == []
    assert settings.test_skills
    assert not settings.validate_input
    assert settings.log_filter.default == "info"


def test_everything_can_be_set(load: Load) -> None:
    given = tomllib.loads(EVERYTHING)
    settings = load(EVERYTHING)
    assert set(given) == {str(field.alias) for field in Settings.model_fields.values()}
    default = Settings()
    same = {
        name for name in Settings.model_fields if getattr(settings, name) == getattr(default, name)
    }
    assert same == set()


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, 2 * GIB),
        ({"memory_limit": 3 * GIB}, 3 * GIB // 2),
        ({"memory_limit": 3 * GIB, "memory_request": GIB}, GIB // 2),
    ],
)
def test_skill_cache_size(given: dict[str, Any], size: int) -> None:
    assert Settings(**given).skill_cache_size == size


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, 10 * GIB),
        ({"wasmtime_cache_size_limit": 3}, 3),
        ({"wasmtime_cache_size_limit": 3, "wasmtime_cache_size_request": 2}, 2),
    ],
)
def test_artifact_cache_size(given: dict[str, Any], size: int) -> None:
    assert Settings(**given).artifact_cache_size == size


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "engines", 5)  # noqa: B010


def test_programs_can_give_numbers_and_text() -> None:
    settings = Settings(run_timeout=0.5, kernel_address=Address("::1", 0), skill_memory_limit=1024)
    assert settings.run_timeout == 0.5
    assert settings == Settings.model_validate(
        {"run_timeout": "500ms", "kernel_address": "[::1]:0", "skill_memory_limit": "1KiB"}
    )


# --- describe ------------------------------------------------------------------------------------


def test_the_description_is_a_configuration(load: Load) -> None:
    settings = load(EVERYTHING)
    assert load(settings.describe()) == settings


def test_the_description_of_the_defaults_is_a_configuration(load: Load) -> None:
    settings = load()
    assert load(settings.describe()) == settings
    assert "# inference-url is not set  # default" in settings.describe()


def test_the_description_tells_the_sources(load: Load) -> None:
    settings = load(
        'engines = 2\n[namespaces.dev]\nnative-tools = ["add"]',
        dotenv="LOG_LEVEL=debug",
        RUN_TIMEOUT="90s",
        NAMESPACES__DEV__DIRECTORY="skills",
    )
    lines = settings.describe().splitlines()
    assert "engines = 2  # config.toml" in lines
    assert 'log-level = "debug"  # .env LOG_LEVEL' in lines
    assert 'run-timeout = "1m30s"  # env RUN_TIMEOUT' in lines
    assert "compile-jobs = 1  # default" in lines
    assert lines[lines.index("[namespaces.dev]") + 1 :] == [
        'directory = "skills"  # env NAMESPACES__DEV__DIRECTORY',
        "mcp-servers = []  # default",
        'native-tools = ["add"]  # config.toml',
        "# update-interval is not set  # default",
    ]


def test_the_description_masks_secrets(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter3")
    settings = load(
        EVERYTHING.replace("********", "hunter2").replace(
            "http://index", "http://me:hunter4@index"
        ),
        OPENAI_INFERENCE__TOKEN_FILE="token",
    )
    described = settings.describe()
    assert "hunter" not in described + repr(settings.openai_inference)
    assert 'token = "********"  # env OPENAI_INFERENCE__TOKEN_FILE' in described
    assert 'registry-password = "********"  # config.toml' in described
    assert 'config-access-token = "********"' in described
    assert 'document-index-url = "http://********@index"' in described


def test_paths_that_are_not_unicode(load: Load) -> None:
    described = load(WASMTIME_CACHE_DIR="/caf\udce9").describe()
    assert tomllib.loads(described)["wasmtime-cache-dir"] == "/caf\\udce9"


# --- traces --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        ({}, "grpc"),
        ({"OTEL_ENDPOINT": "collector:4317"}, "grpc"),
        ({"OTEL_ENDPOINT": "http://collector:4318"}, "http/protobuf"),
        ({"OTEL_ENDPOINT": "http://collector:4317", "OTEL_PROTOCOL": "grpc"}, "grpc"),
    ],
)
def test_the_protocol_of_traces(load: Load, settings: dict[str, str], protocol: str) -> None:
    assert load(**settings).otlp_protocol == protocol


def test_traces_over_http_need_a_url(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"OTEL_ENDPOINT .* must be an http:// or https://"):
        load(OTEL_ENDPOINT="collector:4317", OTEL_PROTOCOL="http/protobuf")


# --- the documentation ---------------------------------------------------------------------------


def test_the_example_in_the_documentation_works(tmp_path: Path) -> None:
    document = Path(__file__).parents[2] / "docs" / "configuration.md"
    example = document.read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "config.toml").write_text(example)
    (tmp_path / ".env").touch()
    (tmp_path / "openai-token").write_text("sk")
    try:
        settings = load_settings(tmp_path, {"HOME": "/"})
    except ConfigError as error:
        pytest.fail(str(error))
    assert set(settings.namespaces) == {"dev", "team-a", "assistants"}


def test_the_documentation_names_every_setting() -> None:
    document = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    missing = [
        field.alias for field in Settings.model_fields.values() if f"`{field.alias}" not in document
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("99900000 100000", None)],
)
def test_cores_follow_the_control_group(tmp_path: Path, limit: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert cores(tmp_path) == (expected or cores(tmp_path / "none"))


def test_cores_without_control_groups(tmp_path: Path) -> None:
    assert cores(tmp_path) >= 1
