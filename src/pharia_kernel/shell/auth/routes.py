"""What each route demands of its caller: the only place where that is decided.

A route that is not listed here is not served, so that none can be open by oversight.
"""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import unquote

from msgspec import Struct
from starlette.exceptions import HTTPException

from pharia_kernel.config.authorization import Permission

RUN, DEPLOY, CSI = Permission.RUN, Permission.DEPLOY, Permission.CSI


class Open(Enum):
    """Routes that need no permission."""

    TO_ALL = "the token is not looked at"
    IN_PARTS = "a good token shows more; without one, or with another, the answer is short"


Demand = tuple[Permission, ...] | Open
"""One of the permissions: in the namespace that the path names, or if it names none, in any."""

ROUTES: dict[tuple[str, str], Demand] = {
    # The hot ones first.
    ("POST", "/v1/skills/{namespace}/{name}/run"): (RUN,),
    ("POST", "/v1/skills/{namespace}/{name}/message-stream"): (RUN,),
    ("GET", "/v1/skills/{namespace}/{name}/metadata"): (RUN,),
    ("GET", "/v1/skills"): (RUN, DEPLOY),
    ("GET", "/skills"): (RUN, DEPLOY),
    ("GET", "/v1/tools/{namespace}"): (RUN,),
    ("GET", "/v1/mcp_servers/{namespace}"): (RUN,),
    ("POST", "/mcp/{namespace}"): (RUN,),
    # The body names the skill, so it is demanded for its namespace there, too (``openai.routes``).
    ("POST", "/openai/v1/chat/completions"): (RUN,),
    ("GET", "/openai/v1/models"): (RUN,),
    # For those who deploy.
    ("GET", "/v1/namespaces"): (DEPLOY,),
    ("GET", "/v1/namespaces/{namespace}"): (DEPLOY,),
    ("POST", "/v1/namespaces/{namespace}/refresh"): (DEPLOY,),
    ("GET", "/cached_skills"): (RUN, DEPLOY),
    ("DELETE", "/cached_skills/{namespace}/{name}"): (DEPLOY,),
    # The console's.
    ("GET", "/v1/runs"): (RUN, DEPLOY),
    ("GET", "/v1/runs/{id}"): (RUN, DEPLOY),
    ("POST", "/v1/traces"): (RUN, DEPLOY, CSI),
    # System calls; those whose bodies name namespaces demand it there, too (``csi.access``).
    ("POST", "/csi"): (CSI,),
    ("POST", "/csi/v1/{function}"): (CSI,),
    ("POST", "/csi/v2/{function}"): (CSI,),
    # The built-in document index.
    ("GET", "/namespaces"): (CSI,),
    ("GET", "/collections/{namespace}"): (CSI,),
    ("PUT", "/collections/{namespace}/{collection}"): (CSI,),
    ("DELETE", "/collections/{namespace}/{collection}"): (CSI,),
    ("GET", "/collections/{namespace}/{collection}/progress"): (CSI,),
    ("GET", "/collections/{namespace}/{collection}/docs"): (CSI,),
    ("GET", "/collections/{namespace}/{collection}/docs/{name}"): (CSI,),
    ("PUT", "/collections/{namespace}/{collection}/docs/{name}"): (CSI,),
    ("DELETE", "/collections/{namespace}/{collection}/docs/{name}"): (CSI,),
    (
        "GET",
        "/collections/{namespace}/{collection}/docs/{name}/indexes/{index_name}/chunks",
    ): (CSI,),
    ("GET", "/collections/{namespace}/{collection}/indexes"): (CSI,),
    ("GET", "/collections/{namespace}/{collection}/indexes/{index_name}"): (CSI,),
    ("PUT", "/collections/{namespace}/{collection}/indexes/{index_name}"): (CSI,),
    ("DELETE", "/collections/{namespace}/{collection}/indexes/{index_name}"): (CSI,),
    ("POST", "/collections/{namespace}/{collection}/indexes/{index_name}/search"): (CSI,),
    ("GET", "/indexes/{namespace}"): (CSI,),
    ("GET", "/indexes/{namespace}/{index_name}"): (CSI,),
    ("PUT", "/indexes/{namespace}/{index_name}"): (CSI,),
    ("DELETE", "/indexes/{namespace}/{index_name}"): (CSI,),
    # For everybody.
    ("GET", "/health"): Open.TO_ALL,
    ("GET", "/ready"): Open.IN_PARTS,
    ("GET", "/"): Open.TO_ALL,
    ("GET", "/console/{asset}"): Open.TO_ALL,
    ("GET", "/api-docs"): Open.TO_ALL,
    ("GET", "/api-docs/{asset}"): Open.TO_ALL,
    ("GET", "/openapi.json"): Open.TO_ALL,
    ("GET", "/skill.wit"): Open.TO_ALL,
}


class Match(Struct, frozen=True):
    template: str
    demand: Demand
    namespace: str | None


class _Path(Struct, frozen=True):
    template: str
    pattern: re.Pattern[str]
    methods: dict[str, Demand]


class RouteTable:
    """Finds what a request's route demands."""

    def __init__(self, routes: dict[tuple[str, str], Demand] = ROUTES) -> None:
        self._by_root: dict[str, list[_Path]] = {}
        by_template: dict[str, dict[str, Demand]] = {}
        for (method, template), demand in routes.items():
            by_template.setdefault(template, {})[method] = demand
        for template, methods in by_template.items():
            paths = self._by_root.setdefault(_root(template), [])
            paths.append(_Path(template, _pattern(template), methods))

    def find(self, method: str, path: str, *, encoded: bool) -> Match:
        """``encoded`` says that the path's parts are still percent-encoded.

        Raises ``HTTPException`` with 404 or 405 if there is no such route.
        """
        for known in self._by_root.get(_root(path), ()):
            if match := known.pattern.fullmatch(path):
                demand = known.methods.get("GET" if method == "HEAD" else method)
                if demand is None:
                    raise HTTPException(405, headers={"Allow": _allowed(known.methods)})
                namespace = match.groupdict().get("namespace")
                if namespace and encoded:
                    namespace = unquote(namespace)
                return Match(known.template, demand, namespace)
        raise HTTPException(404)


def _root(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if is_name else re.escape(part)
            for part, is_name in zip(parts, [False, True] * len(parts), strict=False)
        )
    )


def _allowed(methods: dict[str, Demand]) -> str:
    # The shell answers HEAD wherever it answers GET.
    return ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
