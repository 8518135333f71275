from pharia_skill import Csi, skill
from pydantic import BaseModel, RootModel


class Input(BaseModel):
    pass


class Output(RootModel[str]):
    root: str


@skill
def spin(csi: Csi, input: Input) -> Output:
    """Never ends."""
    while True:
        pass
