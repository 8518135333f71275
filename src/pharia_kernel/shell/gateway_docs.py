"""OpenAPI paths of the routes that speak protocols of others."""

from __future__ import annotations

from typing import Any

from pharia_kernel.shell.openai.routes import CHAT, MODELS
from pharia_kernel.shell.openapi import answer, path_parameter, problem_answers, ref

_SECURITY: list[dict[str, list[str]]] = [{"api_token": []}]


def paths() -> dict[str, Any]:
    return {
        "/mcp/{namespace}": {"post": _mcp()},
        CHAT: {"post": _chat()},
        MODELS: {"get": _models()},
    }


def _operation(operation_id: str, summary: str, description: str, success: Any) -> dict[str, Any]:
    problems = problem_answers(401, 403, 404).items()
    return {
        "tags": ["gateways"],
        "operationId": operation_id,
        "summary": summary,
        "description": description,
        "responses": {"200": success, **{str(status): body for status, body in problems}},
        "security": _SECURITY,
    }


def _body(description: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"required": True, "description": description, "content": content}


def _mcp() -> dict[str, Any]:
    call = {"name": "greet", "arguments": {"name": "Ada"}}
    return {
        **_operation(
            "mcp",
            "The skills of a namespace as an MCP server",
            "Model Context Protocol over Streamable HTTP, without sessions: `tools/list` and "
            "`tools/call`. What goes wrong in a skill is a result with `isError`. Pages may ask "
            "from loopback addresses and from the origins of `cors-allow-origins`.",
            answer(
                "JSON-RPC messages: notifications of progress, and the response.",
                "text/event-stream",
                {"type": "string"},
                'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{"content":'
                '[{"type":"text","text":"Hello Ada"}],"isError":false}}\n\n',
            ),
        ),
        "parameters": [path_parameter("namespace", "The namespace.", ref("Namespace"), "dev")],
        "requestBody": _body(
            "A JSON-RPC message.",
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        ),
    }


def _chat() -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello"}
    head = {"id": "chatcmpl-1f", "object": "chat.completion", "created": 1760000000}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        **_operation(
            "openai_chat_completion",
            "Chat with a skill",
            "OpenAI's chat completions; `model` is the path of a skill. The skill gets the "
            "`messages`, and those other members of the request that its input schema names. With "
            "`stream`, chunks come as server-sent events. Errors are objects with `error`.",
            answer(
                "The skill's messages as one.",
                "application/json",
                {"type": "object"},
                {**head, "model": "dev/chat", "choices": [choice]},
            ),
        ),
        "requestBody": _body(
            "A request for a chat completion.",
            {"model": "dev/chat", "messages": [{"role": "user", "content": "Hi"}]},
        ),
    }


def _models() -> dict[str, Any]:
    model = {"id": "dev/chat", "object": "model", "created": 1760000000, "owned_by": "dev"}
    return _operation(
        "openai_models",
        "Skills that can be chatted with",
        "Those whose input schema has `messages`.",
        answer(
            "A model for each skill.",
            "application/json",
            {"type": "object"},
            {"object": "list", "data": [model]},
        ),
    )
