"""For tests: stand-ins for the kernel and for the caller of a message stream."""

from pharia_kernel_sdk.http_csi import HttpCsi
from pharia_kernel_sdk.streaming import MessageAppend, MessageBegin, MessageEnd, MessageWriter
from pharia_kernel_sdk.testing.recorder import MessageRecorder, RecordedMessage
from pharia_kernel_sdk.testing.stub import StubCsi

DevCsi = HttpCsi
"""As it was called in ``pharia_skill``."""

__all__ = [
    "DevCsi",
    "HttpCsi",
    "MessageAppend",
    "MessageBegin",
    "MessageEnd",
    "MessageRecorder",
    "MessageWriter",
    "RecordedMessage",
    "StubCsi",
]
