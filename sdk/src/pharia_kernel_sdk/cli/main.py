"""The entry point of ``pharia-sdk``."""

from __future__ import annotations

import typer

from pharia_kernel_sdk.cli import build, deploy, eval, list, logs, new, publish, rollback, run

app = typer.Typer(
    help="Build skills for PhariaKernel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Keeps subcommands subcommands even if there is only one."""


app.command(name="new")(new.new_command)
app.command(name="build")(build.build_command)
app.command(name="run")(run.run_command)
app.command(name="eval")(eval.eval_command)
app.command(name="publish")(publish.publish_command)
app.command(name="deploy")(deploy.deploy_command)
app.command(name="list")(list.list_command)
app.command(name="logs")(logs.logs_command)
app.command(name="rollback")(rollback.rollback_command)


def main() -> None:
    app()
