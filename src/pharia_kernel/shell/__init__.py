"""The HTTP surface: one module per resource, and what they share (auth, bodies, problems, SSE)."""

from pharia_kernel.shell.app import create_app
from pharia_kernel.shell.auth import Authorizer, Authorizers
from pharia_kernel.shell.serve import AddressUnavailable, serve
from pharia_kernel.shell.settings import ShellSettings

__all__ = [
    "AddressUnavailable",
    "Authorizer",
    "Authorizers",
    "ShellSettings",
    "create_app",
    "serve",
]
