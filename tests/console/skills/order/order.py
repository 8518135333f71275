from enum import Enum
from typing import Literal

from pharia_skill import Csi, skill
from pydantic import BaseModel, Field


class Size(str, Enum):
    SMALL = "small"
    LARGE = "large"


class Address(BaseModel):
    city: str = Field(min_length=1)
    street: str | None = None


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    tip: float = Field(0.0, description="In the currency of the shop.")


class Input(BaseModel):
    customer: str = Field(min_length=1, description="Who orders.")
    amount: int = Field(2, ge=1, le=12, description="Between 1 and 12.")
    size: Size
    gift: bool = False
    address: Address
    toppings: list[str] = Field(default_factory=list)
    payment: Card | Cash
    note: str | None = None


class Output(BaseModel):
    received: Input


@skill
def order(csi: Csi, input: Input) -> Output:
    """Takes an order, and says what it has understood."""
    print(f"an order of {input.customer}")
    return Output(received=input)
