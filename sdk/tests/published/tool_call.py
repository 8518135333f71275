"""The kernel's own tools, whose results are deterministic."""

from pharia_skill import Csi, skill
from pydantic import RootModel


class Input(RootModel[int]):
    root: int


class Output(RootModel[int]):
    root: int


@skill
def compute(csi: Csi, input: Input) -> Output:
    """Adds 100 and takes 60 away."""
    total = int(csi.invoke_tool("add", a=input.root, b=100).text())
    return Output(root=int(csi.invoke_tool("subtract", a=total, b=60).text()))
