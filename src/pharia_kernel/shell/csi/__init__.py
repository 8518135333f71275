"""The Cognitive System Interface over HTTP: ``/csi/v1``, ``/csi/v2`` and the legacy ``/csi``."""

from pharia_kernel.shell.csi.routes import CsiCalls

__all__ = ["CsiCalls"]
