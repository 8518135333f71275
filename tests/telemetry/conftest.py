from __future__ import annotations

import pytest

from pharia_kernel.telemetry import metrics


@pytest.fixture(autouse=True)
def _room_for_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the process use up the models and skills that get labels of their own."""
    monkeypatch.setattr(metrics, "_models", metrics._Known(metrics.MAX_MODELS))
    monkeypatch.setattr(metrics, "_skills", metrics._Known(metrics.MAX_SKILLS))
    monkeypatch.setattr(metrics, "_tools", metrics._Known(metrics.MAX_TOOLS))
