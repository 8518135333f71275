"""The kinds of values that settings have: how each is read and how it is written back.

A parser takes what a source holds (text from the environment, any TOML value) or what the program
passes to a constructor, and raises ``expected(...)`` if it does not fit. JSON serialisation gives
the text form again, with secrets masked.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

MASK = "********"


class EnvText(str):
    """A value from the environment, where even lists are text."""

    __slots__ = ()


def expected(what: str, *at: str | int) -> PydanticCustomError:
    """The value should be ``what``; ``at`` leads from the value to the part that is wrong."""
    return PydanticCustomError("expected", "expected {what}", {"what": what, "at": at})


def refused(why: str, *at: str | int) -> PydanticCustomError:
    """For what a sentence says better than "expected something else"."""
    return PydanticCustomError("refused", "{why}", {"why": why, "at": at})


def unknown_key(key: str) -> PydanticCustomError:
    return PydanticCustomError("unknown_key", "unknown key", {"at": (key,)})


def kebab(name: str) -> str:
    return name.replace("_", "-")


class Table(BaseModel):
    """A TOML table: kebab-case keys, no unknown ones, and an empty string means not set."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=kebab,
        validate_by_alias=True,
        validate_by_name=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {key: given for key, given in value.items() if given != "" or key not in known}


# --- text ----------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _parse_text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise expected("a string that is not empty")
    return str(value)


Text = Annotated[str, BeforeValidator(_parse_text)]


def _parse_secret(value: Any) -> SecretStr:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    # Secrets end up in HTTP headers, and only there a stray line break would show: too late.
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        raise expected("a string of one line that is not empty")
    return SecretStr(str(value))


Secret = Annotated[
    SecretStr, BeforeValidator(_parse_secret), PlainSerializer(lambda _: MASK, when_used="json")
]


def _parse_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise expected("a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise expected("a path; the home directory behind `~` is not known") from None


PathValue = Annotated[Path, BeforeValidator(_parse_path)]


# --- lists ---------------------------------------------------------------------------------------


def _split(value: Any) -> Any:
    if not isinstance(value, EnvText):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise expected("a JSON list, or items separated by commas") from None
    return [item for part in value.split(",") if (item := part.strip())]


def _no_duplicates(items: list[Any]) -> list[Any]:
    seen: set[Hashable] = set()
    for item in items:
        name = getattr(item, "name", item)
        if name in seen:
            raise refused(f"`{name}` is listed more than once")
        seen.add(name)
    return items


FromEnv = BeforeValidator(_split)
"""Lets a list be written in one environment variable."""
NoDuplicates = AfterValidator(_no_duplicates)
"""No two items with the same ``name``, or equal ones if they have no name."""


# --- numbers -------------------------------------------------------------------------------------


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise expected("a whole number")
    return value


WholeNumber = Annotated[int, BeforeValidator(_refuse_bool)]
Count = Annotated[WholeNumber, Field(ge=1)]


def _parse_ratio(value: Any) -> float:
    try:
        ratio = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise expected("a number between 0.0 and 1.0 inclusive")
    return ratio


Ratio = Annotated[float, BeforeValidator(_parse_ratio)]


# --- durations -----------------------------------------------------------------------------------

_SECONDS = {
    unit: Decimal(seconds)
    for units, seconds in (
        ("ns nsec nanosecond nanoseconds", "1e-9"),
        ("us µs usec microsecond microseconds", "1e-6"),
        ("ms msec millisecond milliseconds", "1e-3"),
        ("s sec secs second seconds", "1"),
        ("m min mins minute minutes", "60"),
        ("h hr hrs hour hours", "3600"),
        ("d day days", "86400"),
        ("w wk wks week weeks", "604800"),
    )
    for unit in units.split()
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zµ]+)[\s,]*")
_ISO_8601 = TypeAdapter(timedelta)
_LONGEST = 100 * 365 * 86400.0


def parse_duration(text: str) -> float:
    """Seconds; raises ``ValueError``."""
    text = text.strip().lower()
    if text.startswith("p"):
        return _ISO_8601.validate_python(text.upper()).total_seconds()
    total, position = Decimal(0), 0
    while part := _DURATION_PART.match(text, position):
        if part[2] not in _SECONDS:
            break
        total += Decimal(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if not position or position < len(text):
        raise ValueError(f"not a duration: {text}")
    return float(total)


def format_duration(seconds: float) -> str:
    if seconds != int(seconds) or not seconds:
        return f"{Decimal(repr(seconds)):f}s"
    whole = int(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def _parse_duration_value(value: Any, info: ValidationInfo) -> float:
    wanted = expected("a duration with its unit, such as 500ms, 10s, 1h30m or PT10S")
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except (ValueError, ValidationError, OverflowError):
            raise wanted from None
    elif isinstance(value, int | float) and not isinstance(value, bool) and not info.context:
        seconds = float(
            value
        )  # from a constructor; in a file nobody could tell seconds from milliseconds
    else:
        raise wanted
    if not 0 <= seconds <= _LONGEST:
        raise expected("a duration between zero and 100 years")
    return seconds


DurationOrZero = Annotated[
    float,
    BeforeValidator(_parse_duration_value),
    PlainSerializer(format_duration, when_used="json"),
]
"""Seconds."""
Duration = Annotated[DurationOrZero, Field(gt=0)]
"""Seconds, more than zero."""


# --- sizes ---------------------------------------------------------------------------------------

_BYTES = {
    "": 1,
    "b": 1,
    **{
        f"{letter}{suffix}": base**power
        for power, letter in enumerate("kmgtp", start=1)
        for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
    },
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")


def parse_size(text: str) -> int:
    """Bytes, rounded down; raises ``ValueError``. ``k``, ``kB`` are 1000, ``Ki``, ``KiB`` 1024."""
    parts = _SIZE.fullmatch(text.strip().lower())
    if parts is None or parts[2] not in _BYTES:
        raise ValueError(f"not a size: {text}")
    return int(Decimal(parts[1]) * _BYTES[parts[2]])


def format_size(size: int) -> str:
    power = max((p for p in range(6) if size % 1024**p == 0), default=0) if size else 0
    return f"{size // 1024**power}{['', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][power]}"


def _parse_size_value(value: Any) -> int:
    try:
        if isinstance(value, str):
            return parse_size(value)
    except ValueError:
        pass
    else:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    raise expected("a size in bytes, such as 1024, 512MiB or 4G")


SizeOrZero = Annotated[
    int,
    BeforeValidator(_parse_size_value),
    Field(ge=0),
    PlainSerializer(format_size, when_used="json"),
]
"""Bytes."""
Size = Annotated[SizeOrZero, Field(ge=1)]
"""Bytes, at least one."""


# --- addresses and URLs --------------------------------------------------------------------------

_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_CREDENTIALS = re.compile(r"//[^/?#\s]*@")


@dataclass(frozen=True)
class Address:
    """Where a server listens. Port 0 lets the system choose one."""

    host: str
    """Host name or IP address; IPv6 without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """``host:port`` or ``[IPv6]:port``; raises ``ValueError``."""
    parts = _HOST_PORT.fullmatch(text)
    if parts is None or int(parts["port"]) > 65535:
        raise ValueError(f"not an address: {text}")
    host = parts["host"] or parts["ipv6"] or ""
    numeric = re.fullmatch(r"[0-9.]+", host)
    if parts["ipv6"] is not None:
        valid = _is_ip(host, 6)
    else:
        valid = _is_ip(host, 4) if numeric else _HOST_NAME.fullmatch(host) is not None
    if not valid:
        raise ValueError(f"not an address: {text}")
    return Address(host, int(parts["port"]))


def _parse_address_value(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    try:
        return parse_address(value)
    except (TypeError, ValueError):
        raise expected("an address such as 127.0.0.1:8081, localhost:8081 or [::1]:8081") from None


AddressValue = Annotated[
    Address, BeforeValidator(_parse_address_value), PlainSerializer(str, when_used="json")
]


def without_credentials(text: str) -> str:
    """The text with user names and passwords in URLs masked."""
    return _CREDENTIALS.sub(f"//{MASK}@", text)


def _is_url(text: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in schemes
        and bool(parts.hostname)
        and port != 0
        and not re.search(r"\s", text)
        and not _CONTROL.search(text)
    )


def _parse_http_url(value: Any) -> str:
    if isinstance(value, str) and _is_url(value, ("http", "https")):
        return str(value)
    raise expected("an http:// or https:// URL")


def _parse_config_url(value: Any) -> str:
    if isinstance(value, str):
        if _is_url(value, ("http", "https")):
            return str(value)
        # The file is everything after the scheme, so `file://namespace.toml` is a relative path.
        if value.startswith("file://") and len(value) > 7 and not _CONTROL.search(value):
            return str(value)
    raise expected("an http://, https:// or file:// URL")


def _parse_otlp_endpoint(value: Any) -> str:
    if isinstance(value, str):
        if _is_url(value, ("http", "https")):
            return str(value)
        try:
            return str(parse_address(value))
        except ValueError:
            pass
    raise expected("an http:// or https:// URL for OTLP over HTTP, or host:port for gRPC")


def _parse_origin(value: Any) -> str:
    if value == "*":
        return "*"
    if isinstance(value, str) and re.fullmatch(r"https?://[^/?#@]+", value):
        value = value.lower()  # browsers send it so
        if _is_url(value, ("http", "https")):
            return str(value)
    raise expected("an origin such as https://app.example.com (no path, no trailing slash) or *")


_masked_url = PlainSerializer(without_credentials, when_used="json")
HttpUrl = Annotated[str, BeforeValidator(_parse_http_url), _masked_url]
ConfigUrl = Annotated[str, BeforeValidator(_parse_config_url), _masked_url]
OtlpEndpoint = Annotated[str, BeforeValidator(_parse_otlp_endpoint), _masked_url]
CorsOrigin = Annotated[str, BeforeValidator(_parse_origin)]


# --- log filter ----------------------------------------------------------------------------------

_LEVELS = ("error", "warn", "info", "debug", "trace")
_TARGET = re.compile(r"[A-Za-z_][\w-]*((\.|::)[\w-]+)*", re.ASCII)
_OWN_LOGGER = "pharia_kernel"


@dataclass(frozen=True)
class LogFilter:
    """The least severe level that is logged, by logger."""

    default: str
    """``error``, ``warn``, ``info``, ``debug`` or ``trace``."""
    loggers: dict[str, str]
    """Levels of single loggers and those beneath them."""


def parse_log_level(text: str) -> LogFilter:
    """A level, or ``LEVEL,LOGGER=LEVEL,...``; raises ``ValueError``.

    ``debug`` and ``trace`` alone mean the kernel's own loggers: nobody who debugs the kernel wants
    the details of its HTTP library. Targets such as ``pharia-kernel::http`` are understood too.
    """
    default, loggers = None, {}
    for directive in text.lower().split(","):
        target, separator, level = (part.strip() for part in directive.rpartition("="))
        logger = target.replace("::", ".").replace("-", "_")
        if level not in _LEVELS or (separator and not _TARGET.fullmatch(target)):
            raise ValueError(f"not a log filter: {text}")
        if logger in loggers or (not separator and default):
            raise ValueError(f"set twice: {text}")
        if separator:
            loggers[logger] = level
        else:
            default = level
    if not loggers and default in {"debug", "trace"}:
        return LogFilter("info", {_OWN_LOGGER: default})
    return LogFilter(default or "error", loggers)


def _parse_log_level_value(value: Any) -> str:
    try:
        parse_log_level(value)
    except (AttributeError, ValueError):
        levels = ", ".join(_LEVELS)
        raise expected(
            f"one of {levels}, or a filter such as info,pharia_kernel.http=debug"
        ) from None
    return str(value)


LogLevel = Annotated[str, BeforeValidator(_parse_log_level_value)]


def _parse_feature_set(value: Any) -> str:
    text = str(value).strip().lower()
    if isinstance(value, str | int) and (text == "beta" or re.fullmatch(r"[0-9]+", text)):
        return text
    raise expected("BETA or the number of a stable feature set")


FeatureSet = Annotated[str, BeforeValidator(_parse_feature_set)]
"""``beta`` or a number."""
