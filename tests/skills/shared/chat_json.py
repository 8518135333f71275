"""Chat of WIT 0.4 and 0.5 as JSON: the shapes are those of the kernel's own HTTP interface."""

import json
from enum import Enum
from typing import Any

from wit_world.imports import inference as wit

Json = Any


def request(value: Json) -> wit.ChatRequest:
    return wit.ChatRequest(
        model=value["model"],
        messages=[message(m) for m in value["messages"]],
        params=params(value.get("params", {})),
    )


def message(value: Json) -> wit.Message:
    match value["role"]:
        case "assistant":
            calls = value.get("tool_calls")
            return wit.Message_Assistant(
                wit.AssistantMessage(
                    value.get("content"),
                    value.get("reasoning_content"),
                    None
                    if calls is None
                    else [wit.ToolCall(c["id"], c["name"], c["arguments"]) for c in calls],
                )
            )
        case "tool":
            return wit.Message_Tool(wit.ToolMessage(value["content"], value["tool_call_id"]))
        case role:
            return wit.Message_Other(wit.OtherMessage(role, value["content"]))


def params(value: Json) -> wit.ChatParams:
    tools = value.get("tools")
    effort = value.get("reasoning_effort")
    return wit.ChatParams(
        max_tokens=value.get("max_tokens"),
        max_completion_tokens=value.get("max_completion_tokens"),
        temperature=value.get("temperature"),
        top_p=value.get("top_p"),
        frequency_penalty=value.get("frequency_penalty"),
        presence_penalty=value.get("presence_penalty"),
        logprobs=logprobs(value.get("logprobs", "no")),
        tools=None if tools is None else [function(tool) for tool in tools],
        tool_choice=tool_choice(value.get("tool_choice")),
        parallel_tool_calls=value.get("parallel_tool_calls"),
        response_format=response_format(value.get("response_format")),
        reasoning_effort=None if effort is None else wit.ReasoningEffort[effort.upper()],
    )


def logprobs(value: Json) -> wit.Logprobs:
    match value:
        case "no":
            return wit.Logprobs_No()
        case "sampled":
            return wit.Logprobs_Sampled()
        case {"top": top}:
            return wit.Logprobs_Top(top)
    raise ValueError(f"logprobs: {value!r}")


def function(value: Json) -> wit.Function:
    return wit.Function(
        value["name"],
        value.get("description"),
        json_bytes(value.get("parameters")),
        value.get("strict"),
    )


def tool_choice(value: Json) -> wit.ToolChoice | None:
    match value:
        case None:
            return None
        case "none":
            return wit.ToolChoice_None_()
        case "auto":
            return wit.ToolChoice_Auto()
        case "required":
            return wit.ToolChoice_Required()
        case {"named": name}:
            return wit.ToolChoice_Named(name)
    raise ValueError(f"tool_choice: {value!r}")


def response_format(value: Json) -> wit.ResponseFormat | None:
    match value:
        case None:
            return None
        case "text":
            return wit.ResponseFormat_Text()
        case "json_object":
            return wit.ResponseFormat_JsonObject()
        case {"json_schema": schema}:
            return wit.ResponseFormat_JsonSchema(
                wit.JsonSchema(
                    schema.get("description"),
                    schema["name"],
                    json_bytes(schema.get("schema")),
                    schema.get("strict"),
                )
            )
    raise ValueError(f"response_format: {value!r}")


def json_bytes(value: Json) -> bytes | None:
    """Text is passed as it is, so that a test can send what is not JSON."""
    if value is None:
        return None
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def to_json(value: Any) -> Json:
    """Records as objects, cases of enums in lower case, bytes as lists of numbers."""
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
