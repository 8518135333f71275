"""Which calls a test expects, and what the kernel answers to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, get_args

from pharia_kernel_sdk.pytest_plugin.showing import shown

Function = Literal[
    "chat",
    "chat_stream",
    "chunk",
    "complete",
    "completion_stream",
    "document",
    "document_metadata",
    "explain",
    "invoke_tool",
    "list_tools",
    "search",
    "select_language",
]
"""The calls that can be scripted. Concurrent forms are several calls, in the order of the list."""

FUNCTIONS: tuple[str, ...] = get_args(Function)
Condition = Callable[[Any], bool]


class Rule:
    """Answers to the calls that meet all of its conditions."""

    def __init__(
        self,
        function: str,
        where: Condition | None,
        contains: str | None,
        fields: dict[str, Any],
    ) -> None:
        self.function = function
        self._where = where
        self._contains = contains
        self._fields = fields
        self._once: deque[Any] = deque()
        self._always: list[Any] = []
        self._count = 0

    def answer(self, *answers: Any) -> Rule:
        """One answer for each of the next calls, in this order. The test fails if some are left."""
        self._once.extend(answers)
        self._count += len(answers)
        return self

    def always(self, answer: Any) -> Rule:
        """The answer to all calls that no other is left for. A function gets the request."""
        self._always = [answer]
        return self

    def matches(self, function: str, request: Any) -> bool:
        return (
            function == self.function
            and all(getattr(request, name, None) == value for name, value in self._fields.items())
            and (self._contains is None or self._contains in shown(request, ascii_only=False))
            and (self._where is None or bool(self._where(request)))
        )

    @property
    def left(self) -> int:
        """Answers that were given for one call each, and not used."""
        return len(self._once)

    @property
    def ready(self) -> bool:
        return bool(self._once or self._always)

    def take(self, request: Any) -> Any:
        answer = self._once.popleft() if self._once else self._always[0]
        return answer(request) if callable(answer) else answer

    def __str__(self) -> str:
        conditions = [repr(self.function)]
        if self._where is not None:
            conditions.append(getattr(self._where, "__name__", "a function"))
        if self._contains is not None:
            conditions.append(f"contains={self._contains!r}")
        conditions += [f"{name}={value!r}" for name, value in self._fields.items()]
        used = f"{self._count - self.left} of {self._count} answers used" if self._count else ""
        states = [state for state in (used, "always" if self._always else "") if state]
        return f"on({', '.join(conditions)}): {', then '.join(states) or 'without an answer'}"


class Script:
    """Rules, of which the first that matches and has an answer left is used."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        if rule.function not in FUNCTIONS:
            raise ValueError(
                f"There is no call `{rule.function}` to script. There are: {', '.join(FUNCTIONS)}."
            )
        self.rules.append(rule)
        return rule

    def find(self, function: str, request: Any) -> Rule | None:
        return next((r for r in self.rules if r.ready and r.matches(function, request)), None)

    def unused(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.left]

    def __str__(self) -> str:
        if not self.rules:
            return "  (empty)"
        return "\n".join(f"  {number}. {rule}" for number, rule in enumerate(self.rules, 1))
