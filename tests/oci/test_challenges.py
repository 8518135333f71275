import pytest

from pharia_kernel.oci.challenges import Challenge, best_challenge


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ('Basic realm="r"', Challenge("basic", "r")),
        ("Basic", Challenge("basic")),
        ("BASIC realm=r", Challenge("basic", "r")),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            Challenge("bearer", "https://a/t", "s", "repository:a/b:pull,push"),
        ),
        ('bearer  realm = "r" , error="x"', Challenge("bearer", "r")),
        (r'Basic realm="a \"quoted\" \\ one"', Challenge("basic", r'a "quoted" \ one')),
        ('Basic realm="first", realm="second"', Challenge("basic", "first")),
        ('Basic realm="b", Bearer realm="t"', Challenge("bearer", "t")),
        ('Negotiate, Basic realm="b"', Challenge("basic", "b")),
        ('Bearer realm="t" "junk', Challenge("bearer", "t")),
        ("Negotiate", None),
        ('realm="x"', None),
        ("", None),
        ('"', None),
    ],
)
def test_one_header(header: str, challenge: Challenge | None) -> None:
    assert best_challenge([header]) == challenge


def test_tokens_come_before_passwords() -> None:
    assert best_challenge(['Basic realm="b"', 'Bearer realm="t"']) == Challenge("bearer", "t")
    assert best_challenge([]) is None


def test_hostile_headers_take_no_time() -> None:
    for header in ("a" * 100_000, ", " * 100_000, 'Bearer realm="' + "\\" * 100_000, "=" * 9999):
        best_challenge([header])
