"""Metrics in the format of Prometheus, and the functions with which the kernel counts.

Names, labels and buckets of the first group are the original kernel's: dashboards depend on them.
Label values are bounded: skills are those that were found to be configured, models those that
answered, and of both there is a limit, after which they are ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import prometheus_client
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from pharia_kernel.errors import (
    Fixer,
    InvalidInput,
    KernelError,
    Overloaded,
    ShuttingDown,
    SkillFailed,
    SkillQuarantined,
)
from pharia_kernel.telemetry import scope

M = TypeVar("M", bound=MetricWrapperBase)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
"""Seconds."""
MAX_SKILLS = 2000
MAX_MODELS = 100
MAX_TOOLS = 1000
OTHER = "other"
UNKNOWN = "unknown"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_REJECTIONS = frozenset({Overloaded.code, ShuttingDown.code, SkillQuarantined.code})

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


class _Children(Generic[M]):
    """A metric with its children by label values: looking them up there takes ten times longer."""

    def __init__(self, metric: M) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


def _counter(name: str, what: str, *labels: str) -> _Children[Counter]:
    return _Children(Counter(name, what, labels, registry=REGISTRY))


def _histogram(name: str, what: str, *labels: str) -> _Children[Histogram]:
    return _Children(Histogram(name, what, labels, registry=REGISTRY, buckets=BUCKETS))


def _gauge(name: str, what: str) -> Gauge:
    return Gauge(name, what, registry=REGISTRY)


class _Known:
    """Label values that were admitted, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: set[str] = set()

    def __contains__(self, value: str) -> bool:
        return value in self._values

    def admit(self, value: str) -> str:
        if value in self._values:
            return value
        if len(self._values) >= self._limit:
            return OTHER
        self._values.add(value)
        return value

    def look_up(self, value: str) -> str:
        """Without admitting it."""
        return value if value in self._values else UNKNOWN


_skills = _Known(MAX_SKILLS)
_models = _Known(MAX_MODELS)
_tools = _Known(MAX_TOOLS)

# --- as in the original ---------------------------------------------------------------------------

_http_requests = _counter(
    "kernel_http_requests_total", "HTTP requests to known routes.", "method", "path", "status"
)
_http_duration = _histogram(
    "kernel_http_requests_duration_seconds",
    "Time until the headers of the answer.",
    "method",
    "path",
    "status",
)
_executions = _counter(
    "kernel_skill_execution_total",
    "Runs that found their skill, by outcome: ok, logic_error, runtime_error.",
    "namespace",
    "name",
    "status",
)
_execution_duration = _histogram(
    "kernel_skill_execution_duration_seconds",
    "Time of these runs in the engine.",
    "namespace",
    "name",
    "status",
)
_fetch_duration = _histogram(
    "kernel_skill_fetch_duration_seconds",
    "Time to find a skill and have it loaded.",
    "namespace",
    "name",
)
_cached_skills = _gauge("kernel_skill_cache_items", "Skills that the engines have loaded.")
_csi_requests = _counter(
    "kernel_csi_requests_total", "Requests of system calls, of skills and over HTTP.", "function"
)

# --- runs -----------------------------------------------------------------------------------------

_runs = _counter(
    "kernel_skill_runs_total",
    "All runs by outcome: ok, cancelled, or the code of the error.",
    "namespace",
    "name",
    "outcome",
)
_rejected = _counter(
    "kernel_skill_runs_rejected_total",
    "Runs that were refused because of load, quarantine or shutdown.",
    "reason",
)
_cold_starts = _counter(
    "kernel_skill_cold_starts_total",
    "Runs that had to wait until their skill was loaded.",
    "namespace",
    "name",
)
_stream_duration = _histogram(
    "kernel_skill_stream_duration_seconds",
    "Time of message streams from the request to the last event.",
    "namespace",
    "name",
)
_first_event = _histogram(
    "kernel_skill_stream_first_event_seconds",
    "Time of message streams from the request to the first event.",
    "namespace",
    "name",
)
_active_runs = _gauge("kernel_skill_runs_active", "Runs in the engines.")
_queued_runs = _gauge("kernel_skill_run_queue_length", "Runs that wait for a place in an engine.")
_queue_capacity = _gauge(
    "kernel_skill_run_queue_capacity", "Runs that may wait for a place in an engine."
)
_ready = _gauge("kernel_ready", "Whether the kernel can serve, as /ready tells.")
_engines_ready = _gauge("kernel_engines_ready", "Engine processes that take runs.")
_engine_restarts = Counter(
    "kernel_engine_restarts_total", "Engine processes that ended.", registry=REGISTRY
)

# --- deployment -----------------------------------------------------------------------------------

_compile_duration = _histogram(
    "kernel_compile_duration_seconds", "Time to compile a component: ok, or error.", "result"
)
_artifact_cache = _counter(
    "kernel_artifact_cache_requests_total",
    "Look-ups of compiled components on disk: hit, or miss.",
    "result",
)
_registry_requests = _counter(
    "kernel_registry_requests_total",
    "Requests to registries of skills: ok, or the code of the error.",
    "operation",
    "outcome",
)
_namespace_healthy = Gauge(
    "kernel_namespace_healthy",
    "1 while the newest description of the namespace is in effect, else 0.",
    ["namespace"],
    registry=REGISTRY,
)
_skills_by_state = Gauge(
    "kernel_skills", "Configured skills by state.", ["state"], registry=REGISTRY
)
_mcp_servers = Gauge("kernel_mcp_servers", "MCP servers by state.", ["state"], registry=REGISTRY)

# --- system calls ---------------------------------------------------------------------------------

_csi_duration = _histogram(
    "kernel_csi_request_duration_seconds",
    "Time of system calls; of streams until their end. Without a model the label is empty.",
    "function",
    "model",
)
_csi_errors = _counter(
    "kernel_csi_errors_total", "System calls that failed.", "function", "model", "code"
)
_tokens = _counter(
    "kernel_inference_tokens_total",
    "Tokens as the backends count them: input, or output. Without a skill, of calls over HTTP.",
    "model",
    "namespace",
    "name",
    "direction",
)
_first_chunk = _histogram(
    "kernel_inference_first_chunk_seconds",
    "Time of streamed inference until the model's first event.",
    "model",
)
_tool_calls = _counter(
    "kernel_tool_calls_total", "Tool calls: ok, or error.", "namespace", "tool", "outcome"
)

# --- telemetry itself -----------------------------------------------------------------------------

_spans_exported = Counter(
    "kernel_telemetry_spans_exported_total", "Spans that a collector took.", registry=REGISTRY
)
_spans_dropped = _counter(
    "kernel_telemetry_spans_dropped_total",
    "Spans that were lost: queue_full, export_failed, or shutdown.",
    "reason",
)
_build = Gauge("kernel_build_info", "The kernel's version.", ["version"], registry=REGISTRY)

# A series that begins with one has never increased, for Prometheus. So those that alerts watch, and
# of which all are known, begin with zero.
for _reason in _REJECTIONS:
    _rejected(_reason)
for _result in ("ok", "error"):
    _compile_duration(_result)
for _result in ("hit", "miss"):
    _artifact_cache(_result)
for _reason in ("queue_full", "export_failed", "shutdown"):
    _spans_dropped(_reason)


# --- what is looked at when somebody asks ---------------------------------------------------------


class State(Struct, kw_only=True):
    """How the kernel is now."""

    ready: bool
    """As ``/ready`` tells."""
    active_runs: int
    queued_runs: int
    queue_capacity: int
    engines_ready: int
    cached_skills: int
    namespaces: Mapping[str, bool]
    """Whether each of them is healthy."""
    skills: Mapping[str, int]
    """How many are in which state."""
    mcp_servers: Mapping[str, int]


def show(state: State) -> None:
    """Set the gauges."""
    _active_runs.set(state.active_runs)
    _ready.set(state.ready)
    _queued_runs.set(state.queued_runs)
    _queue_capacity.set(state.queue_capacity)
    _engines_ready.set(state.engines_ready)
    _cached_skills.set(state.cached_skills)
    for gauge, values in (
        (_namespace_healthy, state.namespaces),
        (_skills_by_state, state.skills),
        (_mcp_servers, state.mcp_servers),
    ):
        gauge.clear()  # what is gone is not shown any more
        for label, value in values.items():
            gauge.labels(label).set(value)


# --- counting -------------------------------------------------------------------------------------


def _exemplar() -> dict[str, str] | None:
    """Links a sample to its trace, if that is exported."""
    here = scope.current()
    return {"trace_id": here.trace_id} if here.sampled and here.trace_id else None


def http_request(method: str, route: str, status: int, seconds: float) -> None:
    """A request to a known route was answered; ``seconds`` until the headers."""
    labels = (method if method in _METHODS else OTHER, route, str(status))
    _http_requests(*labels).inc()
    _http_duration(*labels).observe(seconds, _exemplar())


def _skill_labels(namespace: str, name: str) -> tuple[str, str]:
    if _skills.admit(f"{namespace}/{name}") == OTHER:
        return OTHER, OTHER
    return namespace, name


def skill_executed(namespace: str, name: str, error: BaseException | None, seconds: float) -> None:
    """A run of a configured skill ended; ``seconds`` since it had its component. Those that were
    cancelled are not counted, as in the original."""
    if error is None:
        status = "ok"
    elif not isinstance(error, Exception):
        return
    else:
        status = "logic_error" if isinstance(error, SkillFailed | InvalidInput) else "runtime_error"
    labels = (*_skill_labels(namespace, name), status)
    _executions(*labels).inc()
    _execution_duration(*labels).observe(seconds, _exemplar())


def skill_fetched(namespace: str, name: str, seconds: float, *, cold: bool) -> None:
    """A configured skill was found, and loaded if it was not (``cold``)."""
    labels = _skill_labels(namespace, name)
    _fetch_duration(*labels).observe(seconds)
    if cold:
        _cold_starts(*labels).inc()


def run_ended(namespace: str, name: str, outcome: str) -> None:
    """Of any request to run a skill: those that never were configured are ``unknown``."""
    if f"{namespace}/{name}" not in _skills:
        namespace = name = UNKNOWN
    _runs(namespace, name, outcome).inc()
    if outcome in _REJECTIONS:
        _rejected(outcome).inc()


def stream_began(namespace: str, name: str, seconds: float) -> None:
    """The first event of a configured skill's stream came."""
    _first_event(*_skill_labels(namespace, name)).observe(seconds, _exemplar())


def stream_ended(namespace: str, name: str, seconds: float) -> None:
    _stream_duration(*_skill_labels(namespace, name)).observe(seconds, _exemplar())


def engine_ended() -> None:
    _engine_restarts.inc()


def compiled(seconds: float, *, ok: bool) -> None:
    _compile_duration("ok" if ok else "error").observe(seconds)


def artifact_looked_up(*, hit: bool) -> None:
    _artifact_cache("hit" if hit else "miss").inc()


def registry_asked(operation: str, outcome: str) -> None:
    """``operation`` is ``check`` or ``read``; ``outcome`` is ``ok`` or the code of an error."""
    _registry_requests(operation, outcome).inc()


def csi_requested(function: str, requests: int) -> None:
    _csi_requests(function).inc(requests)


def csi_answered(
    function: str, model: str | None, seconds: float, error: BaseException | None
) -> None:
    """One request of a system call is over."""
    label = "" if model is None else _model_label(model, error)
    _csi_duration(function, label).observe(seconds, _exemplar())
    if error is not None:
        _csi_errors(function, label, code_of(error)).inc()


def _model_label(model: str, error: BaseException | None) -> str:
    """Callers choose the names: one that they may have invented gets no label of its own."""
    invented = error is not None and not (
        isinstance(error, KernelError) and error.fixer is not Fixer.CALLER
    )
    return _models.look_up(model) if invented else _models.admit(model)


def tokens_used(
    model: str, namespace: str, name: str, input_tokens: int, output_tokens: int
) -> None:
    """``namespace`` and ``name`` are empty if no skill asked."""
    labels = (_models.admit(model), *(_skill_labels(namespace, name) if name else ("", "")))
    _tokens(*labels, "input").inc(input_tokens)
    _tokens(*labels, "output").inc(output_tokens)


def first_chunk(model: str, seconds: float) -> None:
    _first_chunk(_models.admit(model)).observe(seconds, _exemplar())


def tool_called(namespace: str, tool: str | None, *, ok: bool) -> None:
    """``tool`` is none if there is no such tool in the namespace."""
    if tool is None:
        namespace, tool = UNKNOWN, UNKNOWN
    elif _tools.admit(f"{namespace}/{tool}") == OTHER:
        namespace = tool = OTHER
    _tool_calls(namespace, tool, "ok" if ok else "error").inc()


def spans_exported(count: int) -> None:
    _spans_exported.inc(count)


def spans_dropped(reason: str, count: int) -> None:
    _spans_dropped(reason).inc(count)


def version(text: str) -> None:
    _build.labels(text).set(1)


def code_of(error: BaseException) -> str:
    """The kernel's code for an error, ``cancelled``, or ``internal_error``."""
    if isinstance(error, KernelError):
        return error.code
    return KernelError.code if isinstance(error, Exception) else "cancelled"
