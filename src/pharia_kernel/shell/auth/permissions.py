"""Who is calling, and what they may do where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from pharia_kernel.config.authorization import EVERY_NAMESPACE, Permission
from pharia_kernel.errors import InsufficientScope
from pharia_kernel.skills.failures import printable
from pharia_kernel.skills.types import Caller

_LONGEST_NAME = 100


class Grants(Struct, frozen=True):
    """What a token allows."""

    admin: bool = False
    """Everything, everywhere."""
    scopes: Mapping[Permission, frozenset[str]] = {}
    """Namespaces by permission; ``*`` is every namespace."""

    @classmethod
    def of(cls, granted: Iterable[tuple[Permission, Iterable[str]]]) -> Grants:
        scopes: dict[Permission, frozenset[str]] = defaultdict(frozenset)
        for permission, namespaces in granted:
            scopes[permission] |= frozenset(namespaces)
        return cls(Permission.ADMIN in scopes, dict(scopes))

    def allow(self, permission: Permission, namespace: str) -> bool:
        scope = self.scopes.get(permission, frozenset())
        return self.admin or EVERY_NAMESPACE in scope or namespace in scope

    def allow_somewhere(self, permission: Permission) -> bool:
        return self.admin or bool(self.scopes.get(permission))


class Identity(Struct, frozen=True):
    """Whom a token stands for."""

    name: str
    """For the log: the kind of the token, and who it says that it belongs to."""
    grants: Grants
    forwards_token: bool
    """Whether backends may see the token."""


class Principal(Struct, frozen=True):
    """The caller of one request, authenticated."""

    caller: Caller
    """What the rest of the kernel may know; without the token if it is not to be forwarded."""
    name: str
    grants: Grants

    @classmethod
    def of(cls, identity: Identity, caller: Caller) -> Principal:
        if not identity.forwards_token:
            caller = Caller(trace_headers=caller.trace_headers)
        return cls(caller, identity.name, identity.grants)

    @property
    def is_admin(self) -> bool:
        return self.grants.admin

    def may(self, namespace: str, *any_of: Permission) -> bool:
        return any(self.grants.allow(permission, namespace) for permission in any_of)

    def require(self, namespace: str, *any_of: Permission) -> None:
        """Raise ``InsufficientScope`` without one of the permissions in the namespace.

        Nothing is looked up for it: the answer is the same whether the namespace exists or not.
        """
        if not self.may(namespace, *any_of):
            raise _insufficient(
                any_of, f"in the namespace `{printable(namespace, _LONGEST_NAME)}`", namespace
            )

    def require_somewhere(self, *any_of: Permission) -> None:
        """Raise ``InsufficientScope`` without one of the permissions in any namespace.

        The handler then shows only what the caller ``may`` see.
        """
        if not any(self.grants.allow_somewhere(permission) for permission in any_of):
            raise _insufficient(any_of, "in any namespace")


EVERYTHING = Grants(admin=True)
NOTHING = Grants()


def _insufficient(
    any_of: tuple[Permission, ...], where: str, namespace: str = ""
) -> InsufficientScope:
    names = " or ".join(f"`{permission}`" for permission in any_of)
    suffix = f":{printable(namespace, _LONGEST_NAME)}" if namespace else ""
    return InsufficientScope(
        f"The token does not grant {names} {where}.", required=f"{any_of[0]}{suffix}"
    )
