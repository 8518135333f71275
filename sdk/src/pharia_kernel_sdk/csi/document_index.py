"""Searching and loading documents."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal

from pharia_kernel_sdk.csi.tools import JsonSerializable


@dataclass(frozen=True)
class DocumentPath:
    """Names a document."""

    namespace: str
    collection: str
    name: str


@dataclass
class IndexPath:
    """Names a search index over a collection of documents."""

    namespace: str
    collection: str
    index: str


# --- filters


@dataclass
class GreaterThan:
    """The field is a number above the value."""

    value: float


@dataclass
class GreaterThanOrEqualTo:
    """The field is the value, or a number above it."""

    value: float


@dataclass
class LessThan:
    """The field is a number below the value."""

    value: float


@dataclass
class LessThanOrEqualTo:
    """The field is the value, or a number below it."""

    value: float


@dataclass
class _Moment:
    value: dt.datetime

    def __post_init__(self) -> None:
        if not isinstance(self.value, dt.datetime) or self.value.tzinfo is None:
            raise ValueError(
                f"{type(self).__name__} needs a datetime with a time zone, not {self.value!r}."
            )


@dataclass
class After(_Moment):
    """The field is a moment later than the value, a datetime with a time zone."""


@dataclass
class AtOrAfter(_Moment):
    """The field is the moment of the value, a datetime with a time zone, or a later one."""


@dataclass
class Before(_Moment):
    """The field is a moment earlier than the value, a datetime with a time zone."""


@dataclass
class AtOrBefore(_Moment):
    """The field is the moment of the value, a datetime with a time zone, or an earlier one."""


@dataclass
class EqualTo:
    """The field is the value."""

    value: str | int | bool


@dataclass
class IsNull:
    """The field is there and holds null."""

    value: Literal[True] = True


FilterCondition = (
    GreaterThan
    | GreaterThanOrEqualTo
    | LessThan
    | LessThanOrEqualTo
    | After
    | AtOrAfter
    | Before
    | AtOrBefore
    | EqualTo
    | IsNull
)
"""What a field of the metadata must be."""


@dataclass
class MetadataFilter:
    """A condition on one field of a document's metadata.

    ``field`` is a path: names of letters, digits, ``-`` and ``_``, joined by dots; ``a[].b`` means
    any element of the array ``a``, ``a[1].b`` its second. At most 1000 characters.
    """

    field: str
    condition: FilterCondition


@dataclass
class Without:
    """None of the conditions holds."""

    value: list[MetadataFilter]


@dataclass
class WithOneOf:
    """At least one condition holds."""

    value: list[MetadataFilter]


@dataclass
class With:
    """All conditions hold."""

    value: list[MetadataFilter]


SearchFilter = Without | With | WithOneOf
"""Conditions on a document's metadata, and how many of them must hold."""


# --- requests and results


@dataclass
class SearchRequest:
    """One search. Only sections that pass every filter are considered."""

    index_path: IndexPath
    query: str
    max_results: int = 1
    min_score: float | None = None
    """Sections that fit less well are left out. None leaves out nothing."""
    filters: list[SearchFilter] = field(default_factory=list)


@dataclass
class Cursor:
    """A place in a document: which element of its contents, which character of that."""

    item: int
    position: int


@dataclass
class SearchResult:
    """A section that fits the query; the higher the score, the better. ``end`` is inclusive."""

    document_path: DocumentPath
    content: str
    score: float
    start: Cursor
    end: Cursor


@dataclass
class Text:
    """A text in a document."""

    text: str
    modality: Literal["text"] = "text"


@dataclass
class Image:
    """Stands where the document has an image; its pixels are not available."""

    modality: Literal["image"] = "image"


Modality = Text | Image
"""A part of a document."""


@dataclass
class Document:
    """A document as it is stored."""

    path: DocumentPath
    contents: list[Modality]
    metadata: JsonSerializable

    @property
    def text(self) -> str:
        """Its texts, with a blank line between them."""
        return "\n\n".join(part.text for part in self.contents if isinstance(part, Text))
