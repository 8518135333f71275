"""Versions. Constants, because a component has no installed distributions to look them up in."""

DISTRIBUTION = "pharia-kernel-sdk"
SDK = "0.1.0"
WIT = "0.4.0"
"""Of the package ``pharia:skill`` that skills are built for."""
