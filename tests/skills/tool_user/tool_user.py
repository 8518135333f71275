from pharia_skill import Csi, InvokeRequest, ToolError, skill
from pydantic import BaseModel


class Input(BaseModel):
    a: int
    b: int


class Output(BaseModel):
    tools: list[str]
    """Names of the tools that there are."""
    results: list[str]
    """What add, subtract and an unknown tool said, in this order; errors start with `error: `."""


@skill
def tool_user(csi: Csi, input: Input) -> Output:
    """Lists the tools, and calls three in one batch, of which one does not exist."""
    arguments = {"a": input.a, "b": input.b}
    names = ["add", "subtract", "no-such-tool"]
    results = csi.invoke_tool_concurrent([InvokeRequest(name, arguments) for name in names])
    return Output(
        tools=[tool.name for tool in csi.list_tools()],
        results=[f"error: {r.message}" if isinstance(r, ToolError) else r.text() for r in results],
    )
