from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from pharia_kernel.config import values
from pharia_kernel.config.values import Address, EnvText, LogFilter


def accepts(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


# --- durations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("1h30m", 5400),
        ("1h 30min", 5400),
        ("2 days, 3 hours", 183600),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("250us", 0.00025),
        ("1W", 604800),
        ("0s", 0),
        ("PT10S", 10),
        ("pt1h30m", 5400),
        ("P1DT2H", 93600),
        (" 10s ", 10),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "s", "10x", "10s!", "ten seconds", "-10s", "1..5s", "P"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        values.parse_duration(text)
    assert not accepts(values.DurationOrZero, text)


def test_negative_and_endless_durations_are_refused() -> None:
    assert not accepts(values.DurationOrZero, "-PT10S")
    assert not accepts(values.DurationOrZero, "101 years")
    assert not accepts(values.DurationOrZero, f"{'9' * 400}w")
    assert not accepts(values.DurationOrZero, float("nan"))


def test_zero_is_a_duration_only_where_it_makes_sense() -> None:
    assert accepts(values.DurationOrZero, "0s")
    assert not accepts(values.Duration, "0s")


@given(st.integers(1, 10**9) | st.decimals(0, 10**6, places=3).map(float))
def test_durations_survive_being_written(seconds: float) -> None:
    assert values.parse_duration(values.format_duration(seconds)) == seconds


def test_durations_are_written_for_people() -> None:
    written = [values.format_duration(seconds) for seconds in (600, 5400, 3661, 0.5, 0)]
    assert written == ["10m", "1h30m", "1h1m1s", "0.5s", "0s"]


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("512MiB", 512 * 1024**2),
        ("512 mib", 512 * 1024**2),
        ("4G", 4 * 1000**3),
        ("4GB", 4 * 1000**3),
        ("4Gi", 4 * 1024**3),
        ("1.5KiB", 1536),
        ("7B", 7),
        ("2T", 2 * 1000**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "MiB", "1 2", "5 apples", "1e3", "1MiB extra", "\u0664G"]
)
def test_no_sizes(text: str) -> None:
    assert not accepts(values.SizeOrZero, text)


@given(st.integers(0, 2**60))
def test_sizes_survive_being_written(size: int) -> None:
    assert values.parse_size(values.format_size(size)) == size


def test_sizes_are_written_for_people() -> None:
    written = [values.format_size(size) for size in (0, 1000, 1024, 1536, 512 * 1024**2)]
    assert written == ["0", "1000", "1KiB", "1536", "512MiB"]


def test_size_zero_and_bools() -> None:
    assert accepts(values.SizeOrZero, 0)
    assert not accepts(values.Size, 0)
    assert not accepts(values.SizeOrZero, True)
    assert not accepts(values.SizeOrZero, 1.5)


# --- addresses and URLs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8081", Address("0.0.0.0", 8081)),
        ("[::1]:80", Address("::1", 80)),
        ("localhost:0", Address("localhost", 0)),
        ("my-host.example.com:65535", Address("my-host.example.com", 65535)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert values.parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        ":80",
        "host",
        "host:",
        "host:65536",
        "::1:80",
        "[1.2.3.4]:80",
        "1.2.3.400:80",
        "[]:80",
        "a b:80",
        "http://host:80",
        "host:80/",
        "host:٨٠",
        "",
    ],
)
def test_no_addresses(text: str) -> None:
    assert not accepts(values.AddressValue, text)


@pytest.mark.parametrize("url", ["http://host", "https://host:8443/v1", "http://[::1]:8000/mcp"])
def test_http_urls_stay_as_written(url: str) -> None:
    assert TypeAdapter(values.HttpUrl).validate_python(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "host:80",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host:0",
        "http://a b",
        "http://host\n",
        "file:///etc/passwd",
        "",
    ],
)
def test_no_http_urls(url: object) -> None:
    assert not accepts(values.HttpUrl, url)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://host/namespace.toml", True),
        ("file://namespace.toml", True),
        ("file:///etc/namespace.toml", True),
        ("file://", False),
        ("ssh://host", False),
        ("namespace.toml", False),
    ],
)
def test_config_urls(url: str, good: bool) -> None:
    assert accepts(values.ConfigUrl, url) is good


@pytest.mark.parametrize(
    ("endpoint", "good"),
    [
        ("http://host:4318/v1/traces", True),
        ("host:4317", True),
        ("host", False),
        ("grpc://h", False),
    ],
)
def test_otlp_endpoints(endpoint: str, good: bool) -> None:
    assert accepts(values.OtlpEndpoint, endpoint) is good


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        ("*", True),
        ("https://app.example.com", True),
        ("http://localhost:3000", True),
        ("https://app.example.com/", False),
        ("https://*.example.com/x", False),
        ("app.example.com", False),
        ("https://me@app.example.com", False),
    ],
)
def test_cors_origins(origin: str, good: bool) -> None:
    assert accepts(values.CorsOrigin, origin) is good


def test_cors_origins_are_compared_as_browsers_send_them() -> None:
    adapter = TypeAdapter[str](values.CorsOrigin)
    assert adapter.validate_python("https://App.Example.com") == "https://app.example.com"


def test_credentials_in_urls_are_masked() -> None:
    masked = values.without_credentials("http://me:secret@host/a, https://plain/@x")
    assert masked == "http://********@host/a, https://plain/@x"


# --- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "log_filter"),
    [
        ("error", LogFilter("error", {})),
        ("INFO", LogFilter("info", {})),
        ("debug", LogFilter("info", {"pharia_kernel": "debug"})),
        ("trace", LogFilter("info", {"pharia_kernel": "trace"})),
        ("info,pharia_kernel.http=debug", LogFilter("info", {"pharia_kernel.http": "debug"})),
        ("warn, pharia-kernel::csi=trace", LogFilter("warn", {"pharia_kernel.csi": "trace"})),
        ("uvicorn=warn", LogFilter("error", {"uvicorn": "warn"})),
        ("debug,uvicorn=warn", LogFilter("debug", {"uvicorn": "warn"})),
    ],
)
def test_log_filters(text: str, log_filter: LogFilter) -> None:
    assert values.parse_log_level(text) == log_filter


@pytest.mark.parametrize(
    "text", ["", "loud", "info,debug", "a=info,a=warn", "=info", "a b=info", "a=", "info,,warn"]
)
def test_no_log_filters(text: str) -> None:
    assert not accepts(values.LogLevel, text)


@pytest.mark.parametrize(
    ("text", "feature_set"), [("BETA", "beta"), ("Beta", "beta"), ("3", "3"), (3, "3")]
)
def test_feature_sets(text: object, feature_set: str) -> None:
    assert TypeAdapter[str](values.FeatureSet).validate_python(text) == feature_set


@pytest.mark.parametrize("text", ["betta", "-1", "1.0", True, ["1"]])
def test_no_feature_sets(text: object) -> None:
    assert not accepts(values.FeatureSet, text)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, "nan", "inf", "much", True, None, [0.5]])
def test_no_ratios(ratio: object) -> None:
    assert not accepts(values.Ratio, ratio)


def test_ratios_include_both_ends() -> None:
    assert [TypeAdapter[float](values.Ratio).validate_python(r) for r in (0, "1", 0.5)] == [
        0,
        1,
        0.5,
    ]


def test_lists_in_the_environment() -> None:
    adapter = TypeAdapter[list[str]](Annotated[list[str], values.FromEnv])
    assert adapter.validate_python(EnvText("a, b,,c ")) == ["a", "b", "c"]
    assert adapter.validate_python(EnvText(' ["a,b", "c"]')) == ["a,b", "c"]
    assert not accepts(Annotated[list[str], values.FromEnv], EnvText("[a"))
    assert not accepts(Annotated[list[str], values.FromEnv], "a,b")


def test_secrets_show_themselves_nowhere() -> None:
    adapter = TypeAdapter[SecretStr](values.Secret)
    secret = adapter.validate_python("hunter2")
    assert secret.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(secret) + str(secret)
    assert adapter.dump_python(secret, mode="json") == "********"


@pytest.mark.parametrize("value", ["", "two\nlines", "nul\0", 5])
def test_no_secrets(value: object) -> None:
    assert not accepts(values.Secret, value)


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert str(TypeAdapter[Path](values.PathValue).validate_python("~/x")) == "/home/me/x"
    assert not accepts(values.PathValue, "a\0b")
    assert not accepts(values.PathValue, "")
    assert not accepts(values.PathValue, 5)
