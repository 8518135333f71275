import time

from pharia_skill import Csi, skill
from pydantic import BaseModel, RootModel


class Input(BaseModel):
    seconds: float


class Output(RootModel[str]):
    root: str


@skill
def sleeper(csi: Csi, input: Input) -> Output:
    """Waits on the clock without asking the kernel for anything."""
    time.sleep(input.seconds)
    return Output("slept")
