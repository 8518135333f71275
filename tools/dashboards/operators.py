"""The operators' board."""

from __future__ import annotations

from tools.dashboards.model import Board, Panel, Query, Row, Variable
from tools.dashboards.queries import FAILED, Scope, one

kernel = Scope("job", "instance")

BOARD = Board(
    file="operators.json",
    uid="pharia-kernel-operators",
    title="PhariaKernel: operators",
    description="Are the kernels well, and if not, where is the trouble?",
    variables=(
        Variable("job", "Job", "kernel_build_info"),
        Variable("instance", "Instance", 'kernel_build_info{job=~"$job"}'),
    ),
    rows=(
        Row(
            "Overview",
            (
                Panel(
                    "Kernels",
                    one(kernel.over("count", "kernel_build_info")),
                    "short",
                    "stat",
                    width=3,
                    bad_below=1,
                ),
                Panel(
                    "Engines ready",
                    one(kernel.over("sum", "kernel_engines_ready")),
                    "short",
                    "stat",
                    width=3,
                    bad_below=1,
                ),
                Panel(
                    "Runs",
                    one(kernel.rate("kernel_skill_runs_total")),
                    "ops",
                    "stat",
                    width=3,
                ),
                Panel(
                    "Failed runs",
                    one(kernel.share("kernel_skill_runs_total", FAILED)),
                    "percentunit",
                    "stat",
                    width=3,
                    bad_from=0.05,
                    description="Without mistakes of callers and runs refused because of load.",
                ),
                Panel(
                    "Runs waiting",
                    one(kernel.over("sum", "kernel_skill_run_queue_length")),
                    "short",
                    "stat",
                    width=3,
                    bad_from=1,
                ),
                Panel(
                    "Skills unusable",
                    one(kernel.over("max", "kernel_skills", "", 'state="failed"')),
                    "short",
                    "stat",
                    width=3,
                    bad_from=1,
                ),
                Panel(
                    "Namespaces unhealthy",
                    one(f"count({kernel.select('kernel_namespace_healthy')} == 0) or vector(0)"),
                    "short",
                    "stat",
                    width=3,
                    bad_from=1,
                ),
                Panel(
                    "Registry failures",
                    one(kernel.share("kernel_registry_requests_total", 'outcome!~"ok|cancelled"')),
                    "percentunit",
                    "stat",
                    width=3,
                    bad_from=0.1,
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Requests by status",
                    one(kernel.rate("kernel_http_requests_total", "status"), "{{status}}"),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Requests by route",
                    one(
                        kernel.rate("kernel_http_requests_total", "method, path"),
                        "{{method}} {{path}}",
                    ),
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Time until the headers of the answer",
                    kernel.quantiles("kernel_http_requests_duration_seconds"),
                    "s",
                ),
            ),
        ),
        Row(
            "Runs",
            (
                Panel(
                    "Runs by outcome",
                    one(kernel.rate("kernel_skill_runs_total", "outcome"), "{{outcome}}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Skills with the most failures",
                    one(
                        "topk(10, "
                        + kernel.rate("kernel_skill_runs_total", "namespace, name", FAILED)
                        + ")",
                        "{{namespace}}/{{name}}",
                    ),
                    "ops",
                ),
                Panel(
                    "Refused runs",
                    one(kernel.rate("kernel_skill_runs_rejected_total", "reason"), "{{reason}}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Runs active and waiting",
                    (
                        Query(
                            kernel.over("sum", "kernel_skill_runs_active", "instance"),
                            "{{instance}} active",
                        ),
                        Query(
                            kernel.over("sum", "kernel_skill_run_queue_length", "instance"),
                            "{{instance}} waiting",
                        ),
                    ),
                    "short",
                    width=6,
                ),
                Panel(
                    "Queue in use",
                    one(
                        kernel.over("sum", "kernel_skill_run_queue_length", "instance")
                        + " / ("
                        + kernel.over("sum", "kernel_skill_run_queue_capacity", "instance")
                        + " > 0)",
                        "{{instance}}",
                    ),
                    "percentunit",
                    width=6,
                    description="When the queue is full, runs are refused.",
                ),
                Panel(
                    "Time of runs in the engine",
                    kernel.quantiles("kernel_skill_execution_duration_seconds"),
                    "s",
                    width=6,
                ),
                Panel(
                    "Time to find and load the skill",
                    kernel.quantiles("kernel_skill_fetch_duration_seconds"),
                    "s",
                    width=6,
                ),
            ),
        ),
        Row(
            "Engines and process",
            (
                Panel(
                    "Ready to serve",
                    one(kernel.over("min", "kernel_ready", "instance"), "{{instance}}"),
                    "bool_yes_no",
                    width=4,
                ),
                Panel(
                    "Engines ready",
                    one(kernel.over("sum", "kernel_engines_ready", "instance"), "{{instance}}"),
                    "short",
                    width=5,
                ),
                Panel(
                    "Engine restarts",
                    one(kernel.rate("kernel_engine_restarts_total", "instance"), "{{instance}}"),
                    "ops",
                    width=5,
                ),
                Panel(
                    "Processor time of the kernel process",
                    one(kernel.rate("process_cpu_seconds_total", "instance"), "{{instance}}"),
                    "short",
                    width=5,
                    description="In cores, without engines: the process is full at one.",
                ),
                Panel(
                    "Memory of the kernel process",
                    one(
                        kernel.over("sum", "process_resident_memory_bytes", "instance"),
                        "{{instance}}",
                    ),
                    "bytes",
                    width=5,
                    description="Resident set, without engines.",
                ),
            ),
        ),
        Row(
            "Deployment of skills",
            (
                Panel(
                    "Skills by state",
                    one(kernel.over("max", "kernel_skills", "state"), "{{state}}"),
                    "short",
                    width=6,
                    description="Of the kernel that has the most of them.",
                ),
                Panel(
                    "Skills loaded",
                    one(kernel.over("sum", "kernel_skill_cache_items", "instance"), "{{instance}}"),
                    "short",
                    width=6,
                ),
                Panel(
                    "Healthy namespaces",
                    one(
                        kernel.over("min", "kernel_namespace_healthy", "namespace"),
                        "{{namespace}}",
                    ),
                    "bool_yes_no",
                    width=6,
                ),
                Panel(
                    "Requests to registries",
                    one(
                        kernel.rate("kernel_registry_requests_total", "operation, outcome"),
                        "{{operation}} {{outcome}}",
                    ),
                    "ops",
                    width=6,
                ),
                Panel(
                    "Compiled components",
                    one(
                        kernel.rate("kernel_compile_duration_seconds_count", "result"), "{{result}}"
                    ),
                    "ops",
                    width=6,
                ),
                Panel(
                    "Time to compile",
                    one(kernel.quantile(0.95, "kernel_compile_duration_seconds"), "p95"),
                    "s",
                    width=6,
                ),
                Panel(
                    "Components found compiled",
                    one(
                        kernel.rate("kernel_artifact_cache_requests_total", "result"), "{{result}}"
                    ),
                    "ops",
                    width=6,
                ),
                Panel(
                    "Cold starts",
                    one(
                        kernel.rate("kernel_skill_cold_starts_total", "namespace, name"),
                        "{{namespace}}/{{name}}",
                    ),
                    "ops",
                    width=6,
                ),
            ),
        ),
        Row(
            "System calls",
            (
                Panel(
                    "Requests by function",
                    one(kernel.rate("kernel_csi_requests_total", "function"), "{{function}}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Errors by function and code",
                    one(
                        kernel.rate("kernel_csi_errors_total", "function, model, code"),
                        "{{function}} {{model}} {{code}}",
                    ),
                    "ops",
                ),
                Panel(
                    "Time by function and model",
                    one(
                        kernel.quantile(
                            0.95, "kernel_csi_request_duration_seconds", "function, model"
                        ),
                        "p95 {{function}} {{model}}",
                    ),
                    "s",
                ),
            ),
        ),
        Row(
            "Inference and tools",
            (
                Panel(
                    "Time until the first chunk",
                    one(
                        kernel.quantile(0.95, "kernel_inference_first_chunk_seconds", "model"),
                        "p95 {{model}}",
                    ),
                    "s",
                    width=6,
                ),
                Panel(
                    "Tokens",
                    one(
                        kernel.rate("kernel_inference_tokens_total", "model, direction"),
                        "{{model}} {{direction}}",
                    ),
                    "short",
                    width=6,
                    description="A second.",
                ),
                Panel(
                    "Tool calls",
                    one(kernel.rate("kernel_tool_calls_total", "outcome"), "{{outcome}}"),
                    "ops",
                    width=6,
                ),
                Panel(
                    "MCP servers",
                    one(kernel.over("max", "kernel_mcp_servers", "state"), "{{state}}"),
                    "short",
                    width=6,
                ),
            ),
        ),
        Row(
            "Telemetry",
            (
                Panel(
                    "Spans",
                    (
                        Query(kernel.rate("kernel_telemetry_spans_exported_total"), "exported"),
                        Query(
                            kernel.rate("kernel_telemetry_spans_dropped_total", "reason"),
                            "dropped: {{reason}}",
                        ),
                    ),
                    "ops",
                    width=12,
                ),
                Panel(
                    "Versions",
                    one(kernel.over("count", "kernel_build_info", "version"), "{{version}}"),
                    "short",
                    width=12,
                ),
            ),
        ),
    ),
)
