import pytest
from my_skill import my_skill

from pharia_kernel_sdk.pytest_plugin import InvalidInputError


def test_the_haiku_is_what_the_model_says(csi, run_skill):
    csi.on("chat", contains="A haiku about rain.").answer("Drops on the tin roof\n")

    assert run_skill(my_skill, {"topic": "rain"}) == {"haiku": "Drops on the tin roof"}


def test_it_needs_a_topic(run_skill):
    with pytest.raises(InvalidInputError, match=r"\$\.topic"):
        run_skill(my_skill, {"topic": ""})
