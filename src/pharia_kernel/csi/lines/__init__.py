"""The WIT lines: for each the shapes that cross the socket (declared, not converted by hand) and
what they mean.

Shapes are msgspec structs with the kebab-case names of the WIT texts; a variant is a union of
structs that are arrays beginning with the case's name. ``tests/csi`` holds them against the texts
in ``wit/``.
"""

from pharia_kernel.csi.lines import v02, v03, v04
from pharia_kernel.csi.lines.function import Function

FUNCTIONS: dict[str, Function] = {
    **v02.functions(),
    **v03.functions(),
    **v04.functions("0.4"),
    **v04.functions("0.5"),
}
"""By the name that engines use: ``pharia:skill/inference@0.4.0#chat``."""
