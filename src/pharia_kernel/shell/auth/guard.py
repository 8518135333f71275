"""The door that every request comes through."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request
from starlette.types import Scope

from pharia_kernel.config.authorization import Permission
from pharia_kernel.errors import KernelError
from pharia_kernel.shell.auth.authorizers import Authorizer
from pharia_kernel.shell.auth.bearer import caller_of
from pharia_kernel.shell.auth.permissions import NOTHING, Identity, Principal
from pharia_kernel.shell.auth.routes import Demand, Open, RouteTable
from pharia_kernel.shell.exchange import note_route
from pharia_kernel.skills.failures import printable
from pharia_kernel.skills.types import Caller
from pharia_kernel.telemetry import names, tracing

_PRINCIPAL = "pharia_kernel.principal"
_STRANGER = Identity("a stranger", NOTHING, forwards_token=False)

_log = logging.getLogger("pharia_kernel.authorization")


class Guard:
    """Lets requests pass that may, and tells the routes who is calling."""

    def __init__(self, authorizer: Authorizer, routes: RouteTable | None = None) -> None:
        self._authorizer = authorizer
        self._routes = routes or RouteTable()

    async def admit(self, scope: Scope, *, encoded: bool = False) -> None:
        """Put the caller into the scope of the request, for ``principal_of``.

        ``encoded`` says that the path is as it was sent. Raises ``HTTPException`` if there is no
        such route, what the authorizer raises, or ``InsufficientScope``.
        """
        match = self._routes.find(scope["method"], scope["path"], encoded=encoded)
        note_route(scope, match.template)
        if match.demand is Open.TO_ALL:
            return
        with tracing.span(names.CHECK_PERMISSIONS):
            await self._check(scope, match.demand, match.namespace)

    async def _check(self, scope: Scope, demand: Demand, namespace: str | None) -> None:
        caller = caller_of(dict(scope["headers"]))
        if isinstance(demand, Open):  # in parts: the others don't come here
            scope[_PRINCIPAL] = await self._if_known(caller)
            return
        principal = await self._authorizer.authenticate(caller)
        if namespace is None:
            principal.require_somewhere(*demand)
        else:
            principal.require(namespace, *demand)
        scope[_PRINCIPAL] = principal
        if demand == (Permission.DEPLOY,) and scope["method"] not in ("GET", "HEAD"):
            # Whoever changes what runs is named in the log.
            _log.info("%s %s by %s", scope["method"], printable(scope["path"]), principal.name)

    async def _if_known(self, caller: Caller) -> Principal:
        try:
            return await self._authorizer.authenticate(caller)
        except KernelError:
            return Principal.of(_STRANGER, caller)


def principal_of(scope: Scope) -> Principal:
    """Who is calling, once the guard has let the request pass."""
    principal: Principal = scope[_PRINCIPAL]
    return principal


def _principal(request: Request) -> Principal:
    return principal_of(request.scope)


Asking = Annotated[Principal, Depends(_principal)]
"""``principal_of`` as a parameter of a FastAPI route."""


class ApiToken(SecurityBase):
    """``Principal.caller`` as a dependency of FastAPI. It also documents the security scheme."""

    def __init__(self) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = "api_token"

    async def __call__(self, request: Request) -> Caller:
        return principal_of(request.scope).caller
