"""The smallest skill: a function from one pydantic model to another. It needs no model."""

from pharia_skill import Csi, skill
from pydantic import BaseModel, Field, RootModel


class Input(BaseModel):
    name: str = Field(min_length=1, description="Whom to greet.")


class Output(RootModel[str]):
    root: str


@skill
def greet(csi: Csi, input: Input) -> Output:
    """Greets a person by name."""
    return Output(f"Hello {input.name}")
