"""``pharia-kernel status``: how a running kernel's namespaces and skills are doing."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:  # slow to import; most commands don't need them
    import httpx
    from rich.console import Console
    from rich.table import Table

FAILED, UNREACHABLE = 1, 2
"""Exit codes."""
_TIMEOUT = 30.0
_WIDTH = 160
"""Columns where the output is no terminal."""
_COLOURS = {
    **dict.fromkeys(["ok", "ready", "serving"], "green"),
    **dict.fromkeys(["stale", "preparing", "unread"], "yellow"),
    **dict.fromkeys(["broken", "failed"], "bold red"),
}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def status(
    namespace: Annotated[str | None, typer.Argument(help="Show one namespace in detail.")] = None,
    url: Annotated[
        str, typer.Option(envvar="PHARIA_KERNEL_ADDRESS", help="Where the kernel listens.")
    ] = "http://127.0.0.1:8081",
    token: Annotated[
        str | None,
        typer.Option(envvar="PHARIA_AI_TOKEN", help="Bearer token, if needed.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="What the kernel answers, for programs.")
    ] = False,
) -> None:
    """Show namespaces and skills. Exits with 0 if all is well, 1 if something failed, and 2 if the
    kernel does not tell."""
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT) as client:
            found = _one(client, namespace) if namespace else _all(client)
        namespaces = [found] if namespace else found["namespaces"]
        failed = any(entry["error"] for entry in [*namespaces, *found["skills"]])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _fail(f"no answer from {url}: {error}")
    except (ValueError, LookupError, TypeError):
        _fail(f"what answers at {url} is no PhariaKernel of this version")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show(namespaces, found["skills"], in_detail=namespace is not None)
    if failed:
        raise typer.Exit(FAILED)


# --- asking ---------------------------------------------------------------------------------------


def _all(client: httpx.Client) -> dict[str, Any]:
    namespaces = _get(client, "/v1/namespaces")
    skills = _get(client, "/v1/skills?detail=true")
    if not isinstance(namespaces, list) or not isinstance(skills, list):
        raise TypeError("both are lists")
    return {"namespaces": namespaces, "skills": skills}


def _one(client: httpx.Client, namespace: str) -> Any:
    from urllib.parse import quote

    return _get(client, f"/v1/namespaces/{quote(namespace, safe='')}")


def _get(client: httpx.Client, path: str) -> Any:
    answer = client.get(path)
    if not answer.is_success:
        _fail(_reason(answer))
    return answer.json()


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the kernel answered with status {answer.status_code}"


def _fail(reason: str) -> NoReturn:
    typer.echo(f"error: {reason}", err=True)
    raise typer.Exit(UNREACHABLE)


# --- showing --------------------------------------------------------------------------------------


def _show(
    namespaces: list[dict[str, Any]], skills: list[dict[str, Any]], *, in_detail: bool
) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    _show_namespaces(console, namespaces)
    if skills:
        _show_skills(console, skills)
    if skills and in_detail:
        _show_descriptions(console, skills)
        _show_versions(console, skills)


def _show_namespaces(console: Console, namespaces: list[dict[str, Any]]) -> None:
    table = _table("namespace", "state", "skills", "source", "last read", "error")
    for entry in namespaces:
        counts = entry["skill_states"]
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        _add(
            table,
            entry["name"],
            entry["state"],
            f"{counts['ready']} of {sum(counts.values())} ready{failed}",
            entry["source"],
            _ago(entry["last_success"]),
            _detail(entry["error"]) or "; ".join(entry["warnings"]),
        )
    console.print(table)


def _show_skills(console: Console, skills: list[dict[str, Any]]) -> None:
    table = _table("skill", "status", "version", "since", "tag", "serving", "signed by", "error")
    for skill in skills:
        _add(
            table,
            skill["path"],
            skill["status"],
            skill["state"] or "",
            _ago(skill["since"]),
            skill["tag"] or "",
            _short(skill["digest"]),
            skill["signed_by"] or "",
            _detail(skill["error"]) + _next(skill["next_attempt"]),
        )
    console.print(table)


def _show_descriptions(console: Console, skills: list[dict[str, Any]]) -> None:
    """Of those that carry one."""
    described = [skill for skill in skills if skill.get("description")]
    if not described:
        return
    table = _table("skill", "kind", "description")
    for skill in described:
        kind = (skill["kind"] or "").replace("_", " ")
        _add(table, skill["path"], kind, skill["description"].strip().partition("\n")[0])
    console.print(table)


def _show_versions(console: Console, skills: list[dict[str, Any]]) -> None:
    table = _table("versions of", "digest", "state", "since", "tag", "generation", "took", "error")
    for skill in skills:
        for record in skill["history"]:
            took = ", ".join(f"{state} {spent:.1f} s" for state, spent in record["seconds"].items())
            _add(
                table,
                skill["path"],
                _short(record["digest"]),
                record["state"],
                _ago(record["since"]),
                record["tag"],
                str(record["generation"]),
                took,
                _detail(record["error"]),
            )
    console.print(table)


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns)


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell, _COLOURS.get(cell, "")) for cell in cells))


def _short(digest: str | None) -> str:
    return digest.removeprefix("sha256:")[:12] if digest else ""


def _detail(error: dict[str, Any] | None) -> str:
    return str(error["detail"]) if error else ""


def _ago(moment: float | None) -> str:
    return "" if moment is None else f"{_duration(time.time() - moment)} ago"


def _next(moment: float | None) -> str:
    return "" if moment is None else f" (again in {_duration(moment - time.time())})"


def _duration(seconds: float) -> str:
    """In the largest unit that fits."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"
