"""Calls a skill wherever it is: its source or its component in this process, or deployed in a
kernel. JSON in, JSON out, and the same errors everywhere.

``skill`` has what the three have in common; ``source``, ``component`` and ``deployed`` are they.
``cases`` are inputs with what is expected of the outputs, and ``evaluation`` tries them.
"""
