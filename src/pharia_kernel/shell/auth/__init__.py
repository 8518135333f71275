"""Who is calling, and may they?

The ``guard`` stands before all routes. It asks the ``authorizers`` who the token stands for, and
the table of ``routes`` what that must be allowed to do.
"""

from pharia_kernel.config.authorization import Permission
from pharia_kernel.shell.auth.authorizers import Authorizer, Authorizers
from pharia_kernel.shell.auth.exposure import exposure
from pharia_kernel.shell.auth.guard import ApiToken, Asking, Guard, principal_of
from pharia_kernel.shell.auth.permissions import Principal

__all__ = [
    "ApiToken",
    "Asking",
    "Authorizer",
    "Authorizers",
    "Guard",
    "Permission",
    "Principal",
    "exposure",
    "principal_of",
]
