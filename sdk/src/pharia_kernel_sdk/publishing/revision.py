"""Which commit a file was built from."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_TIMEOUT = 10.0


@dataclass(frozen=True)
class Revision:
    """Of the git repository around a file."""

    commit: str
    """In full, with ``-dirty`` behind it if files that git knows were changed since."""
    source: str | None
    """URL of the remote ``origin``, without credentials."""


def revision_of(folder: Path) -> Revision | None:
    """None outside of a repository, before its first commit, and without git."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    remote = _git(folder, "remote", "get-url", "origin")
    return Revision(f"{commit}-dirty" if changed else commit, _public(remote))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _public(remote: str | None) -> str | None:
    """As others reach it: ``git@host:path`` becomes a URL, and folders of this machine stay out."""
    if not remote:
        return None
    if "://" not in remote:
        host, colon, path = remote.rpartition("@")[2].partition(":")
        return f"https://{host}/{path.lstrip('/')}" if colon and "/" not in host else None
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
