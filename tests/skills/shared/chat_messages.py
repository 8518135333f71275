"""Chat of WIT 0.4 and later: messages are a variant in WIT, and objects with a role in HTTP."""

from typing import Any

from csi_calls import CALLS, Call

Json = Any


def with_variants(call: Call) -> Call:
    def converted(body: Json) -> Json:
        one = isinstance(body, dict)
        requests = [
            r | {"messages": [message(m) for m in r["messages"]]} for r in ([body] if one else body)
        ]
        return answered(call(requests[0] if one else requests))

    return converted


def message(value: Json) -> Json:
    role = value["role"]
    return {role if role in ("assistant", "tool") else "other": value}


def answered(value: Json) -> Json:
    """Responses as `/csi/v2/chat` gives them: the message with its role; streams as they are."""
    for response in value:
        if isinstance(response, dict):
            response["message"] = {"role": "assistant", "tool_call_id": None} | response["message"]
    return value


CHAT_CALLS: dict[str, Call] = CALLS | {
    name: with_variants(call) for name, call in CALLS.items() if name.startswith("chat")
}
