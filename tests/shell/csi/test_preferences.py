from __future__ import annotations

import pytest

from pharia_kernel.shell.csi.preferences import KEEP_ALIVE, Preferences, preferences


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], Preferences()),
        (["keep-alive"], Preferences(KEEP_ALIVE)),
        (["keep-alive=1"], Preferences(1)),
        (['Keep-Alive = "30"; foo=1, item-errors'], Preferences(30, True)),
        (["item-errors", "keep-alive=3600"], Preferences(3600, True)),
        (["keep-alive=5, keep-alive=6"], Preferences(5)),
        (["respond-async, wait=10"], Preferences()),
        (["keep-alive=0"], Preferences()),
        (["keep-alive=-1"], Preferences()),
        (["keep-alive=1.5"], Preferences()),
        (["keep-alive=3601"], Preferences()),
        (["keep-alive=" + "9" * 5000], Preferences()),
        (["keep-alive=\xb2"], Preferences()),
        ([",,=;", ""], Preferences()),
    ],
)
def test_preferences(values: list[str], wanted: Preferences) -> None:
    headers = [(b"host", b"kernel"), *((b"prefer", value.encode("latin-1")) for value in values)]
    assert preferences(headers) == wanted
