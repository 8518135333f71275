"""What the environment says about registries and kernels, or else a file ``.env``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from pharia_kernel_sdk.publishing.errors import PublishError

REGISTRY, REPOSITORY = "SKILL_REGISTRY", "SKILL_REPOSITORY"
USER, PASSWORD = "SKILL_REGISTRY_USER", "SKILL_REGISTRY_TOKEN"
KEY_PASSWORD = "COSIGN_PASSWORD"  # noqa: S105
_FILE = ".env"


@dataclass(frozen=True)
class Environment:
    """Looks up names; the environment comes before the file."""

    values: Mapping[str, str]
    file: Path | None = None

    @classmethod
    def read(
        cls, folder: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Environment:
        """With the ``.env`` of the folder (by default, the current one) or the nearest above it.
        Raises ``PublishError``."""
        environ = os.environ if environ is None else environ
        start = (folder or Path.cwd()).resolve()
        file = next((f for d in (start, *start.parents) if (f := d / _FILE).is_file()), None)
        found: dict[str, str | None] = {}
        if file:
            try:
                found = dotenv_values(file, interpolate=False)
            except (OSError, UnicodeDecodeError) as error:
                raise PublishError(f"{file} can't be read: {error}.") from None
        given = {name: value for name, value in found.items() if value}
        return cls({**given, **environ}, file if given else None)

    def get(self, name: str) -> str | None:
        """None also if it is empty."""
        return self.values.get(name) or None
