"""The forms of a namespace: a watched directory, a list in place, a team's own description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from pharia_kernel.config.problems import HIDDEN
from pharia_kernel.config.registries import (
    OCI_KEYS,
    REGISTRY_KEYS,
    FileRegistryConfig,
    RegistryConfig,
)
from pharia_kernel.config.signatures import SIGNATURE_KEYS, SignatureSettings
from pharia_kernel.config.tools import McpServerEntry
from pharia_kernel.config.values import (
    ConfigUrl,
    Count,
    Duration,
    FromEnv,
    NoDuplicates,
    PathValue,
    Secret,
    Size,
    Table,
    Text,
    expected,
    kebab,
    refused,
    unknown_key,
)
from pharia_kernel.errors import InvalidNamespace
from pharia_kernel.skills.paths import SKILL_NAME_MAX_LENGTH, check_namespace, is_skill_name

NativeTool = Literal["add", "subtract", "saboteur"]
McpServers = Annotated[list[McpServerEntry], FromEnv, NoDuplicates]
NativeTools = Annotated[list[NativeTool], FromEnv, NoDuplicates]

REGISTRY = f"{HIDDEN}registry"

_TOOL_KEYS = ("mcp-servers", "native-tools")
_COMMON_KEYS = ("update-interval",)
FORMS: dict[str, tuple[str, ...]] = {
    "directory": ("directory", *_TOOL_KEYS, *_COMMON_KEYS),
    "skills": ("skills", *REGISTRY_KEYS, *SIGNATURE_KEYS, *_TOOL_KEYS, *_COMMON_KEYS),
    "config-url": (
        "config-url",
        "config-access-token",
        *REGISTRY_KEYS,
        *SIGNATURE_KEYS,
        *_COMMON_KEYS,
    ),
}
"""All keys of each form, by the key that tells the form."""
NAMESPACE_KEYS = tuple(dict.fromkeys(key for keys in FORMS.values() for key in keys))


# --- registries ----------------------------------------------------------------------------------


class _WithRegistry(SignatureSettings):
    model_config = ConfigDict(alias_generator=lambda n: REGISTRY if n == "registry" else kebab(n))

    registry: RegistryConfig

    @model_validator(mode="before")
    @classmethod
    def _gather_registry(cls, value: Any) -> Any:
        """The registry's keys stand beside the others; put them in a table of their own."""
        if not isinstance(value, dict) or isinstance(value.get("registry"), Table):
            return value
        registry = {key: value[key] for key in REGISTRY_KEYS if value.get(key, "") != ""}
        rest = {key: given for key, given in value.items() if key not in REGISTRY_KEYS}
        return rest | {REGISTRY: registry}

    @model_validator(mode="after")
    def _check_signatures(self) -> Self:
        if self.demands_signatures and isinstance(self.registry, FileRegistryConfig):
            key = "signature-keys" if self.signature_keys else "signature-identities"
            raise refused("not allowed beside `path`: only OCI registries have signatures", key)
        return self


# --- skills --------------------------------------------------------------------------------------


def _check_skill_name(name: str) -> str:
    if not is_skill_name(name):
        raise expected(
            f"a skill name: 1 to {SKILL_NAME_MAX_LENGTH} printable characters without `/` and "
            "`\\`, and not `.` or `..`"
        )
    return name


SkillName = Annotated[Text, AfterValidator(_check_skill_name)]


class SkillEntry(BaseModel):
    """A component in the namespace's registry, and limits for its runs."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=kebab,
        validate_by_alias=True,
        validate_by_name=True,
    )

    name: SkillName
    tag: Text = "latest"
    run_timeout: Duration | None = None
    memory_limit: Size | None = None
    max_runs: Count | None = None
    allowed_tools: Annotated[list[Text], NoDuplicates] | None = None
    """The namespace's tools that the skill may list and call; none: all of them."""


SKILL_KEYS = tuple(str(field.alias) for field in SkillEntry.model_fields.values())


class ChatSkillEntry(BaseModel):
    """A chat with a fixed model and system prompt, without a component."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["chat"] = "chat"
    name: SkillName
    version: Text
    model: Text
    system_prompt: str


CHAT_KEYS = tuple(ChatSkillEntry.model_fields)


def _tell_skill_form(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and value.get("type", "chat") != "chat":
        raise expected('"chat", or no type for a skill that is a component', "type")
    if not isinstance(value, dict | SkillEntry | ChatSkillEntry):
        raise expected('a table such as { name = "greet", tag = "latest" }')
    return value


def _skill_form(value: Any) -> str:
    chat = isinstance(value, ChatSkillEntry) or (isinstance(value, dict) and "type" in value)
    return f"{HIDDEN}chat" if chat else f"{HIDDEN}skill"


AnySkillEntry = Annotated[
    Annotated[SkillEntry, Tag(f"{HIDDEN}skill")] | Annotated[ChatSkillEntry, Tag(f"{HIDDEN}chat")],
    Discriminator(_skill_form),
    BeforeValidator(_tell_skill_form),
]


# --- namespaces ----------------------------------------------------------------------------------


class WatchNamespace(Table):
    """Every component in a directory is a skill."""

    directory: PathValue
    mcp_servers: McpServers = Field(default_factory=list)
    native_tools: NativeTools = Field(default_factory=list)
    update_interval: Duration | None = None
    """How often the namespace is looked at; none: as the kernel's setting says."""


class InPlaceNamespace(_WithRegistry):
    """The skills are listed in the kernel's own configuration."""

    skills: Annotated[list[AnySkillEntry], FromEnv, NoDuplicates]
    mcp_servers: McpServers = Field(default_factory=list)
    native_tools: NativeTools = Field(default_factory=list)
    update_interval: Duration | None = None


class TeamOwnedNamespace(_WithRegistry):
    """The skills are listed in a TOML file elsewhere."""

    config_url: ConfigUrl
    config_access_token: Secret | None = None
    update_interval: Duration | None = None


def _quoted(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _check_registry(keys: set[str]) -> None:
    oci = [key for key in OCI_KEYS if key in keys]
    if "path" in keys and oci:
        raise refused(f"`path` and {_quoted(oci)} exclude each other: keep one registry")
    if "path" not in keys and not oci:
        raise expected("`path` (a folder), or `registry`")


def _check_form(value: Any) -> Any:
    """Exactly one form, and no key of another one; keys of no form are left to the form's model."""
    if not isinstance(value, dict):
        return value
    value = {k: given for k, given in value.items() if given != "" or k not in NAMESPACE_KEYS}
    keys = set(value)
    chosen = [form for form in FORMS if form in keys]
    if not chosen:
        for key in sorted(keys.difference(NAMESPACE_KEYS)):
            raise unknown_key(key)
        raise expected(f"one of {_quoted(FORMS)} to say where the skills come from")
    if len(chosen) > 1:
        raise refused(f"{_quoted(chosen)} exclude each other: keep one")
    (form,) = chosen
    for key in sorted(keys.intersection(NAMESPACE_KEYS).difference(FORMS[form])):
        raise refused(f"not allowed beside `{form}`", key)
    if "path" in FORMS[form]:
        _check_registry(keys)
    return value


def _namespace_form(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((f"{HIDDEN}{form}" for form in FORMS if form in value), None)
    return _FORM_OF_CLASS.get(type(value))


_FORM_OF_CLASS: dict[type, str] = {
    WatchNamespace: f"{HIDDEN}directory",
    InPlaceNamespace: f"{HIDDEN}skills",
    TeamOwnedNamespace: f"{HIDDEN}config-url",
}

NamespaceConfig = Annotated[
    Annotated[WatchNamespace, Tag(f"{HIDDEN}directory")]
    | Annotated[InPlaceNamespace, Tag(f"{HIDDEN}skills")]
    | Annotated[TeamOwnedNamespace, Tag(f"{HIDDEN}config-url")],
    Discriminator(
        _namespace_form,
        custom_error_type="expected",
        custom_error_message="expected a table",
        custom_error_context={"what": "a table"},
    ),
    BeforeValidator(_check_form),
]


def _check_namespace_name(name: str) -> str:
    try:
        return check_namespace(name)
    except InvalidNamespace as error:
        raise refused(error.detail) from None


NamespaceName = Annotated[str, AfterValidator(_check_namespace_name)]
