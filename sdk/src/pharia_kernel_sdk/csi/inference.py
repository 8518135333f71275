"""What skills say to language models, and what these answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from pharia_kernel_sdk.csi.tools import Tool


class FinishReason(str, Enum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"


@dataclass
class TokenUsage:
    """Tokens that were read and written."""

    prompt: int
    completion: int


NoLogprobs = Literal["no"]
"""Ask for no probabilities."""

SampledLogprobs = Literal["sampled"]
"""Ask for the probabilities of the tokens in the answer."""


@dataclass
class TopLogprobs:
    """Ask for the likeliest tokens at each position, ``top`` of them, from 0 to 20."""

    top: int


Logprobs = TopLogprobs | NoLogprobs | SampledLogprobs
"""Which probabilities to return."""


@dataclass
class Logprob:
    """A token, which may be a part of a character, and the natural logarithm of its probability."""

    token: bytes
    logprob: float

    def try_as_utf8(self) -> str | None:
        """The token as text, or None if it is not whole characters."""
        try:
            return self.token.decode("utf-8")
        except UnicodeDecodeError:
            return None


@dataclass
class Distribution:
    """What the model could have said at one position; ``sampled`` is what it did say."""

    sampled: Logprob
    top: list[Logprob]


# --- completion


@dataclass
class CompletionParams:
    """How to continue a prompt. What is None is left to the model's own default."""

    max_tokens: int | None = None
    """The most that is generated."""
    temperature: float | None = None
    """0 always picks the likeliest token; higher values vary more."""
    top_k: int | None = None
    """Pick among this many of the likeliest tokens."""
    top_p: float | None = None
    """Pick among the likeliest tokens that together have this probability."""
    stop: list[str] = field(default_factory=list)
    """Generation ends before any of these texts."""
    return_special_tokens: bool = True
    """Keep control tokens of the model, such as marks of turns, in the text."""
    frequency_penalty: float | None = None
    """Above 0, a token becomes less likely with each use; below 0, likelier."""
    presence_penalty: float | None = None
    """Above 0, a token becomes less likely once it was used; below 0, likelier."""
    logprobs: Logprobs = "no"
    """Which probabilities to return."""
    echo: bool = False
    """Begin the text with the prompt; ``logprobs`` are then of the prompt, too."""


@dataclass
class CompletionRequest:
    """One prompt to continue."""

    model: str
    prompt: str
    params: CompletionParams = field(default_factory=CompletionParams)


@dataclass
class Completion:
    """Text that a model generated."""

    text: str
    finish_reason: FinishReason
    logprobs: list[Distribution]
    """One for each token, if the request asked for them."""
    usage: TokenUsage


@dataclass
class CompletionAppend:
    """The next piece of a completion."""

    text: str
    logprobs: list[Distribution]


CompletionEvent = CompletionAppend | FinishReason | TokenUsage
"""What comes out of a stream: pieces, then the reason why the model stopped, then usage."""


# --- chat


class Role(str, Enum):
    """Who says something in a chat."""

    User = "user"
    Assistant = "assistant"
    System = "system"
    Tool = "tool"
    Developer = "developer"


@dataclass
class ToolCall:
    """A model asks for a tool. ``arguments`` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name. Raises ``ValueError`` if the model did not write a JSON object."""
        try:
            parameters = json.loads(self.arguments or "{}")
        except ValueError as error:
            raise ValueError(
                f"The model called `{self.name}` with arguments that are not JSON ({error}): "
                f"{self.arguments[:200]}"
            ) from None
        if not isinstance(parameters, dict):
            raise ValueError(
                f"The model called `{self.name}` with {self.arguments[:200]}, not a JSON object."
            )
        return parameters

    def as_message(self) -> Message:
        """The turn of the conversation in which the model made this call."""
        return Message(Role.Assistant, "", tool_calls=[self])


ToolCallRequest = ToolCall
"""As it was called in ``pharia_skill``."""


@dataclass
class Message:
    """One turn of a conversation.

    ``content`` is empty where the model said nothing, as when it only calls tools.
    """

    role: Role
    content: str
    reasoning_content: str | None = None
    """What the model thought before, if its provider tells. Models do not see it again."""
    tool_calls: list[ToolCall] | None = None
    """The tools that the model asks for, in messages of the assistant."""
    tool_call_id: str | None = None
    """Which call a message of a tool answers."""

    @classmethod
    def user(cls, content: str) -> Message:
        """What the user says."""
        return cls(Role.User, content)

    @classmethod
    def assistant(cls, content: str, tool_calls: list[ToolCall] | None = None) -> Message:
        """What the model said in an earlier turn, and the tools that it asked for."""
        return cls(Role.Assistant, content, tool_calls=tool_calls)

    @classmethod
    def system(cls, content: str) -> Message:
        """Instructions to the model."""
        return cls(Role.System, content)

    @classmethod
    def developer(cls, content: str) -> Message:
        """Instructions to models that know them under this name instead of ``system``."""
        return cls(Role.Developer, content)

    @classmethod
    def tool(cls, content: str, tool_call_id: str = "") -> Message:
        """What a tool answered to the call with that id."""
        return cls(Role.Tool, content, tool_call_id=tool_call_id)


@dataclass
class NamedToolChoice:
    """The model must call this tool."""

    name: str


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice
"""May the model call tools (``auto``), must it (``required``, or a tool by its name), or not?"""


@dataclass
class JsonSchema:
    """The answer must be JSON of this shape."""

    name: str
    """Of the shape, for the model."""
    schema: dict[str, Any] | None = None
    """A JSON Schema."""
    description: str | None = None
    """What the shape is for."""
    strict: bool | None = None
    """Whether the provider enforces the schema, for which it may allow fewer keywords."""


ResponseFormat = Literal["text", "json_object"] | JsonSchema
"""Whether the answer is text, any JSON object, or JSON of a shape."""


class ReasoningEffort(str, Enum):
    """How much a model should think before it answers."""

    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass
class ChatParams:
    """How to answer a conversation. What is None is left to the model's own default."""

    max_tokens: int | None = None
    """The most that is generated."""
    temperature: float | None = None
    """0 always picks the likeliest token; higher values vary more."""
    top_p: float | None = None
    """Pick among the likeliest tokens that together have this probability."""
    frequency_penalty: float | None = None
    """Above 0, a token becomes less likely with each use; below 0, likelier."""
    presence_penalty: float | None = None
    """Above 0, a token becomes less likely once it was used; below 0, likelier."""
    logprobs: Logprobs = "no"
    """Which probabilities to return; streams have none."""
    max_completion_tokens: int | None = None
    """The most that is generated, reasoning included: for models that refuse ``max_tokens``."""
    tools: list[Tool] | None = None
    """What the model may call. The skill makes the calls, and answers with ``Message.tool``."""
    tool_choice: ToolChoice | None = None
    """May the model call tools, or must it?"""
    parallel_tool_calls: bool | None = None
    """May the model make several calls in one turn?"""
    response_format: ResponseFormat | None = None
    """Which form the answer has."""
    reasoning_effort: ReasoningEffort | None = None
    """How much the model thinks, if it can."""


@dataclass
class ChatRequest:
    """One conversation to answer."""

    model: str
    messages: list[Message]
    params: ChatParams = field(default_factory=ChatParams)


@dataclass
class ChatResponse:
    """The model's turn."""

    message: Message
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: TokenUsage


@dataclass
class MessageBegin:
    """A message starts."""

    role: str


@dataclass
class Reasoning:
    """The next piece of what the model thinks."""

    content: str


@dataclass
class MessageAppend:
    """The next piece of a message. ``logprobs`` is empty: streams of chats carry none."""

    content: str
    logprobs: list[Distribution] = field(default_factory=list)


@dataclass
class ToolCallChunk:
    """A piece of the tool call number ``index``: id and name come first, arguments bit by bit."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


@dataclass
class ToolCallEvent:
    """Pieces of tool calls."""

    chunks: list[ToolCallChunk]


ChatEvent = MessageBegin | Reasoning | MessageAppend | ToolCallEvent | FinishReason | TokenUsage
"""What comes out of a stream: a begin, pieces of all kinds, the reason of the end, then usage."""


# --- explanation


class Granularity(str, Enum):
    """Size of the parts that are scored."""

    AUTO = "auto"
    WORD = "word"
    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"


@dataclass
class ExplanationRequest:
    """Which parts of the prompt made the model say the target?"""

    prompt: str
    target: str
    model: str
    granularity: Granularity = Granularity.AUTO


@dataclass
class TextScore:
    """How much a part of the prompt mattered; start and length are in characters."""

    start: int
    length: int
    score: float
