"""The smallest skill: a function from one dataclass to a text. It needs no model."""

from dataclasses import dataclass
from typing import Annotated

from pharia_kernel_sdk import Csi, Field, skill


@dataclass
class Input:
    name: Annotated[str, Field(min_length=1, description="Whom to greet.")]


@skill
def greet(csi: Csi, input: Input) -> str:
    """Greets a person by name."""
    return f"Hello {input.name}"
