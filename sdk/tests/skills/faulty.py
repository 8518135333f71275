"""Goes wrong in the ways that skills do, and does what only works if the build looked ahead."""

import random
import sys
from typing import Any

from lib import deep

from pharia_kernel_sdk import Csi, skill


def again(depth: int) -> int:
    return again(depth + 1) + 1


@skill
def faulty(csi: Csi, input: str) -> dict[str, Any]:
    if input == "deep":
        deep.fail("no such city")
    if input == "lazy":
        import statistics

        from lib.lazy import WORD

        return {"word": WORD, "mean": statistics.mean([1, 3])}
    if input == "absent":
        name = "imaplib"
        __import__(name)
    if input == "recursion":
        again(0)
    if input == "exit":
        sys.exit("enough")
    if input == "wrong":
        return ["not", "a", "dictionary"]  # type: ignore[return-value]
    if input == "print":
        print("a line of output")
    return {"random": random.random(), "modules": len(sys.modules)}
