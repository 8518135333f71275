"""Ways in which a run has no result, the same for plain Python and for components."""

from __future__ import annotations


class SkillError(Exception):
    """A run had no result. The message is what callers of the deployed skill would read."""


class InvalidInputError(SkillError):
    """The input is not what the skill takes."""


class SkillFailedError(SkillError):
    """The skill raised an exception, returned what it does not promise, or crashed.

    Outside of a component, the exception is the cause of this one (``__cause__``).
    """
