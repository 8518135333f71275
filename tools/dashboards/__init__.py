"""Writes the Grafana dashboards of the chart: one for operators, one for owners of skills.

    python -m tools.dashboards [--check]

The boards are described here and nowhere else: each in a module of its own. What Grafana imports is
``charts/pharia-kernel/dashboards/*.json``. The boards need no recording rules.
"""
