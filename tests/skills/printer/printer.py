import sys

from pharia_skill import Csi, skill
from pydantic import BaseModel, RootModel


class Input(BaseModel):
    lines: int = 1
    text: str = "line"


class Output(RootModel[str]):
    root: str


@skill
def printer(csi: Csi, input: Input) -> Output:
    """Writes numbered lines to stdout and stderr."""
    for number in range(input.lines):
        print(f"{input.text} {number} to stdout")
        print(f"{input.text} {number} to stderr", file=sys.stderr)
    return Output("printed")
