"""What publishing says when it can't go on."""

from __future__ import annotations


class PublishError(Exception):
    """The message says what is wrong, where, and what to do about it. It never holds a secret."""


class RegistryError(PublishError):
    """A registry refused something. ``status`` is that of HTTP, or None if there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class KernelError(PublishError):
    """A kernel refused something. ``status`` is that of HTTP, or None if there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
