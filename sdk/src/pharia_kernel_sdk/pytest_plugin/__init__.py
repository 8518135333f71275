"""Testing skills with pytest: the fixtures ``csi`` and ``run_skill``.

A test scripts what the kernel answers (``csi.on("chat").answer("Hi")``), or records it once from a
running kernel (``--csi-record``) and replays it from then on. With ``--skill-component`` the same
tests run against the components that the skills are built into.
"""

from pharia_kernel_sdk.pytest_plugin.runner import SkillRunner
from pharia_kernel_sdk.pytest_plugin.scripted import ScriptedCsi
from pharia_kernel_sdk.running.errors import InvalidInputError, SkillError, SkillFailedError
from pharia_kernel_sdk.running.results import Streamed

__all__ = [
    "InvalidInputError",
    "ScriptedCsi",
    "SkillError",
    "SkillFailedError",
    "SkillRunner",
    "Streamed",
]
