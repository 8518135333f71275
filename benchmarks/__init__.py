"""Measures what the kernel costs: ``python -m benchmarks``, or ``make bench``."""
