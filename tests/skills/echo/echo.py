from typing import Any

from pharia_skill import Csi, skill
from pydantic import RootModel


class Value(RootModel[Any]):
    root: Any


@skill
def echo(csi: Csi, input: Value) -> Value:
    """Answers with its input, which may be any JSON value."""
    return input
