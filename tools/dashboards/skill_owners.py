"""The board of those who own skills."""

from __future__ import annotations

from tools.dashboards.model import Board, Panel, Row, Variable
from tools.dashboards.queries import FAILED, Scope, one

skill = Scope("job", "namespace", "name")
namespace = Scope("job", "namespace")

BOARD = Board(
    file="skill-owners.json",
    uid="pharia-kernel-skill-owners",
    title="PhariaKernel: skills",
    description="How is my skill used, how fast is it, why does it fail, and what does it cost?",
    variables=(
        Variable("job", "Job", "kernel_build_info"),
        Variable("namespace", "Namespace", 'kernel_namespace_healthy{job=~"$job"}'),
        Variable("name", "Skill", 'kernel_skill_runs_total{job=~"$job", namespace=~"$namespace"}'),
    ),
    rows=(
        Row(
            "Overview",
            (
                Panel(
                    "Runs in this period",
                    one(skill.increase("kernel_skill_runs_total")),
                    "short",
                    "stat",
                    width=4,
                ),
                Panel(
                    "Runs a second",
                    one(skill.rate("kernel_skill_runs_total")),
                    "ops",
                    "stat",
                    width=4,
                ),
                Panel(
                    "Failed runs",
                    one(skill.share("kernel_skill_runs_total", FAILED)),
                    "percentunit",
                    "stat",
                    width=4,
                    bad_from=0.05,
                    description="Without mistakes of callers and runs refused because of load.",
                ),
                Panel(
                    "Time of 95 % of the runs",
                    one(skill.quantile(0.95, "kernel_skill_execution_duration_seconds")),
                    "s",
                    "stat",
                    width=4,
                ),
                Panel(
                    "Tokens in this period",
                    one(skill.increase("kernel_inference_tokens_total")),
                    "short",
                    "stat",
                    width=4,
                ),
                Panel(
                    "Namespace is healthy",
                    one(namespace.over("min", "kernel_namespace_healthy")),
                    "bool_yes_no",
                    "stat",
                    width=4,
                    bad_below=1,
                    description="No: a change of its description is not in effect.",
                ),
            ),
        ),
        Row(
            "Runs",
            (
                Panel(
                    "Runs by skill",
                    one(
                        skill.rate("kernel_skill_runs_total", "namespace, name"),
                        "{{namespace}}/{{name}}",
                    ),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Runs by outcome",
                    one(skill.rate("kernel_skill_runs_total", "outcome"), "{{outcome}}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Failed runs by skill",
                    one(
                        skill.share("kernel_skill_runs_total", FAILED, "namespace, name"),
                        "{{namespace}}/{{name}}",
                    ),
                    "percentunit",
                ),
                Panel(
                    "Executions by status",
                    one(skill.rate("kernel_skill_execution_total", "status"), "{{status}}"),
                    "ops",
                    stacked=True,
                    description="logic_error: the skill said so itself, or did not like its input.",
                ),
                Panel(
                    "Time of executions by status",
                    one(
                        skill.quantile(0.95, "kernel_skill_execution_duration_seconds", "status"),
                        "p95 {{status}}",
                    ),
                    "s",
                ),
                Panel(
                    "Skills in this period",
                    one(skill.increase("kernel_skill_runs_total", "namespace, name, outcome")),
                    "short",
                    "table",
                ),
            ),
        ),
        Row(
            "Speed",
            (
                Panel(
                    "Time of executions",
                    skill.quantiles("kernel_skill_execution_duration_seconds"),
                    "s",
                ),
                Panel(
                    "Streams: time until the first event",
                    skill.quantiles("kernel_skill_stream_first_event_seconds"),
                    "s",
                ),
                Panel(
                    "Streams: time until the last event",
                    skill.quantiles("kernel_skill_stream_duration_seconds"),
                    "s",
                ),
                Panel(
                    "Time to find and load the skill",
                    one(
                        skill.quantile(
                            0.95, "kernel_skill_fetch_duration_seconds", "namespace, name"
                        ),
                        "p95 {{namespace}}/{{name}}",
                    ),
                    "s",
                    width=12,
                ),
                Panel(
                    "Cold starts",
                    one(
                        skill.rate("kernel_skill_cold_starts_total", "namespace, name"),
                        "{{namespace}}/{{name}}",
                    ),
                    "ops",
                    width=12,
                    description="Runs that waited until their skill was loaded.",
                ),
            ),
        ),
        Row(
            "What it uses",
            (
                Panel(
                    "Tokens by model",
                    one(
                        skill.rate("kernel_inference_tokens_total", "model, direction"),
                        "{{model}} {{direction}}",
                    ),
                    "short",
                    description="A second.",
                ),
                Panel(
                    "Tokens by skill",
                    one(
                        skill.rate("kernel_inference_tokens_total", "namespace, name"),
                        "{{namespace}}/{{name}}",
                    ),
                    "short",
                    description="A second.",
                ),
                Panel(
                    "Tool calls of the namespace",
                    one(
                        namespace.rate("kernel_tool_calls_total", "tool, outcome"),
                        "{{tool}} {{outcome}}",
                    ),
                    "ops",
                    description="Of all its skills.",
                ),
            ),
        ),
    ),
)
