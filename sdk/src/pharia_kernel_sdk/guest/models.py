"""Between the SDK's types for models and those of the generated bindings."""

from __future__ import annotations

import json
from typing import Any

from pharia_kernel_sdk.csi.inference import (
    ChatEvent,
    ChatParams,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionAppend,
    CompletionEvent,
    CompletionParams,
    Distribution,
    FinishReason,
    JsonSchema,
    Logprob,
    Logprobs,
    Message,
    MessageAppend,
    MessageBegin,
    NamedToolChoice,
    Reasoning,
    ResponseFormat,
    Role,
    TokenUsage,
    ToolCall,
    ToolCallChunk,
    ToolCallEvent,
    ToolChoice,
    TopLogprobs,
)
from pharia_kernel_sdk.csi.tools import Tool
from pharia_kernel_sdk.guest.bindings import inference as wit

_FINISH_REASONS = {
    wit.FinishReason.STOP: FinishReason.STOP,
    wit.FinishReason.LENGTH: FinishReason.LENGTH,
    wit.FinishReason.CONTENT_FILTER: FinishReason.CONTENT_FILTER,
    wit.FinishReason.TOOL_CALLS: FinishReason.TOOL_CALLS,
}


# --- to the bindings


def completion_request(model: str, prompt: str, params: CompletionParams) -> Any:
    return wit.CompletionRequest(
        model,
        prompt,
        wit.CompletionParams(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            stop=params.stop,
            return_special_tokens=params.return_special_tokens,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logprobs=_logprobs(params.logprobs),
            echo=params.echo,
        ),
    )


def chat_request(request: ChatRequest) -> Any:
    return wit.ChatRequest(
        request.model, [_message(m) for m in request.messages], _chat_params(request.params)
    )


def _chat_params(params: ChatParams) -> Any:
    effort = params.reasoning_effort
    return wit.ChatParams(
        max_tokens=params.max_tokens,
        max_completion_tokens=params.max_completion_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        logprobs=_logprobs(params.logprobs),
        tools=None if params.tools is None else [_function(t) for t in params.tools],
        tool_choice=_tool_choice(params.tool_choice),
        parallel_tool_calls=params.parallel_tool_calls,
        response_format=_response_format(params.response_format),
        reasoning_effort=None if effort is None else wit.ReasoningEffort[effort.name],
    )


def _message(message: Message) -> Any:
    if message.role is Role.Assistant:
        calls = message.tool_calls
        return wit.Message_Assistant(
            wit.AssistantMessage(
                content=None if calls and not message.content else message.content,
                reasoning_content=message.reasoning_content,
                tool_calls=calls
                and [wit.ToolCall(call.id, call.name, call.arguments) for call in calls],
            )
        )
    if message.role is Role.Tool:
        return wit.Message_Tool(wit.ToolMessage(message.content, message.tool_call_id or ""))
    return wit.Message_Other(wit.OtherMessage(message.role.value, message.content))


def _function(tool: Tool) -> Any:
    return wit.Function(
        tool.name, tool.description or None, json.dumps(tool.input_schema).encode(), tool.strict
    )


def _tool_choice(choice: ToolChoice | None) -> Any:
    match choice:
        case None:
            return None
        case NamedToolChoice(name):
            return wit.ToolChoice_Named(name)
        case "none":
            return wit.ToolChoice_None_()
        case "auto":
            return wit.ToolChoice_Auto()
        case "required":
            return wit.ToolChoice_Required()


def _response_format(form: ResponseFormat | None) -> Any:
    match form:
        case None:
            return None
        case "text":
            return wit.ResponseFormat_Text()
        case "json_object":
            return wit.ResponseFormat_JsonObject()
        case JsonSchema():
            schema = None if form.schema is None else json.dumps(form.schema).encode()
            return wit.ResponseFormat_JsonSchema(
                wit.JsonSchema(form.description, form.name, schema, form.strict)
            )


def _logprobs(logprobs: Logprobs) -> Any:
    if isinstance(logprobs, TopLogprobs):
        return wit.Logprobs_Top(logprobs.top)
    return wit.Logprobs_Sampled() if logprobs == "sampled" else wit.Logprobs_No()


# --- from the bindings


def completion(answer: Any) -> Completion:
    return Completion(
        answer.text,
        _FINISH_REASONS[answer.finish_reason],
        _distributions(answer.logprobs),
        _usage(answer.usage),
    )


def chat_response(answer: Any) -> ChatResponse:
    said = answer.message
    calls = [ToolCall(call.id, call.name, call.arguments) for call in said.tool_calls or []]
    return ChatResponse(
        Message(
            Role.Assistant,
            said.content or "",
            reasoning_content=said.reasoning_content,
            tool_calls=calls or None,
        ),
        _FINISH_REASONS[answer.finish_reason],
        _distributions(answer.logprobs),
        _usage(answer.usage),
    )


def completion_event(event: Any) -> CompletionEvent:
    match event:
        case wit.CompletionEvent_Append(value):
            return CompletionAppend(value.text, _distributions(value.logprobs))
        case wit.CompletionEvent_End(value):
            return _FINISH_REASONS[value]
        case _:
            return _usage(event.value)


def chat_event(event: Any) -> ChatEvent:
    match event:
        case wit.ChatEvent_MessageAppend(value):
            return MessageAppend(value.content)
        case wit.ChatEvent_Reasoning(value):
            return Reasoning(value)
        case wit.ChatEvent_MessageBegin(value):
            return MessageBegin(value)
        case wit.ChatEvent_MessageEnd(value):
            return _FINISH_REASONS[value]
        case wit.ChatEvent_ToolCall(value):
            return ToolCallEvent([ToolCallChunk(c.index, c.id, c.name, c.arguments) for c in value])
        case _:
            return _usage(event.value)


def _usage(usage: Any) -> TokenUsage:
    return TokenUsage(usage.prompt, usage.completion)


def _distributions(distributions: Any) -> list[Distribution]:
    return [
        Distribution(_logprob(d.sampled), [_logprob(top) for top in d.top]) for d in distributions
    ]


def _logprob(logprob: Any) -> Logprob:
    return Logprob(logprob.token, logprob.logprob)
