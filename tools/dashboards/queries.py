"""PromQL, as far as the boards need it."""

from __future__ import annotations

from tools.dashboards.model import Query

NOT_FAILED = (
    "ok|cancelled|invalid_input|input_schema_violation|skill_not_found|wrong_skill_kind"
    "|overloaded|shutting_down"
)
"""Outcomes of runs that are nobody's failure, the caller's, or due to load; as in the rules."""
FAILED = f'outcome!~"{NOT_FAILED}"'
QUANTILES = (0.5, 0.95, 0.99)


class Scope:
    """Queries of the series that the board's variables select."""

    def __init__(self, *labels: str) -> None:
        self._labels = tuple(f'{label}=~"${label}"' for label in labels)

    def select(self, metric: str, *matchers: str) -> str:
        return f"{metric}{{{', '.join((*self._labels, *matchers))}}}"

    def over(self, aggregation: str, metric: str, by: str = "", *matchers: str) -> str:
        """Of gauges: ``sum``, ``max``..."""
        return f"{aggregation}{_by(by)} ({self.select(metric, *matchers)})"

    def rate(self, metric: str, by: str = "", *matchers: str) -> str:
        return f"sum{_by(by)} (rate({self.select(metric, *matchers)}[$__rate_interval]))"

    def increase(self, metric: str, by: str = "", *matchers: str) -> str:
        return f"sum{_by(by)} (increase({self.select(metric, *matchers)}[$__range]))"

    def share(self, metric: str, part: str, by: str = "") -> str:
        """Zero if there is nothing of the part, and nothing if there is nothing of the whole."""
        whole = self.rate(metric, by)
        return f"({self.rate(metric, by, part)} or 0 * {whole}) / ({whole} > 0)"

    def quantile(self, quantile: float, histogram: str, by: str = "", *matchers: str) -> str:
        labels = f"le, {by}" if by else "le"
        return (
            f"histogram_quantile({quantile}, {self.rate(f'{histogram}_bucket', labels, *matchers)})"
        )

    def quantiles(self, histogram: str, by: str = "", *matchers: str) -> tuple[Query, ...]:
        legend = "".join(f" {{{{{label}}}}}" for label in by.split(", ") if label)
        return tuple(
            Query(self.quantile(q, histogram, by, *matchers), f"p{q * 100:.0f}{legend}")
            for q in QUANTILES
        )


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    return (Query(expr, legend),)
