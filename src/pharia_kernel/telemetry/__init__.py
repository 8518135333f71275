"""What operators see: traces, metrics and logs.

Other packages call plain functions of ``tracing``, ``metrics`` and the modules about one part of
the kernel (``runs``, ``calls``, ``generation``, ``tools``, ``loading``). Nothing here is handed
around: what a task works on is in a context variable (``scope``).
"""
