"""The harness notices pages that don't tell the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Excluded, PageError, parse
from tests.docs.reader import Reader


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


def follow(reader: Reader, page: Path, text: str) -> None:
    page.write_text(text)
    reader.follow(page)


def fails(reader: Reader, page: Path, text: str, reason: str) -> None:
    with pytest.raises(PageError, match=reason):
        follow(reader, page, text)


def test_a_page_that_is_right(reader: Reader, page: Path) -> None:
    follow(
        reader,
        page,
        """
# Say hello

```sh title="tools/hello.sh"
echo "Hello $1"
echo "of $PWD"
seq 3
```

```diff title="tools/hello.sh"
 echo "Hello $1"
-echo "of $PWD"
+echo "from $PWD/here"
```

```console
$ cd tools
$ export NAME=Homer
```

Folder and variables stay:

```console
$ sh hello.sh \\
    "$NAME"
Hello Homer
from .../tools/here
...
3
$ cat <<END
> a
> END
a
$ echo not compared
```

```console status=3
$ true
$ exit_with() { return $1; }; exit_with 3
```

```console title="second terminal"
$ echo "$NAME is in $PWD"
Homer is in .../tools
```

```json
{"an": "illustration"}
```

<!-- not executed: it would never end -->
```console
$ sleep infinity
```
""",
    )
    assert list(reader.times) == ["Say hello"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("```console\n$ echo a\nb\n```", "(?s)page.md:2: `echo a` prints something else.*- +b.*a"),
        ("```console\n$ echo a\na\nb\n```", "prints something else"),
        ("```console\n$ echo a; echo b\na\n```", "prints something else"),
        ("```console\n$ true\n\n$ false\n```", "page.md:4: `false` ended with 1, not 0"),
        ("```console status=1\n$ true\n```", "ended with 0, not 1"),
        ("```console\nfalse\n```", r"page.md:2: expected `\$ command`"),
        ("```sh\ntrue\n```", "page.md:1: a block of sh that is not executed"),
        ("```\nx\n```", "a block of no language"),
        ("text\n\n    indented\n", "indented code"),
        ("```console titel=x\n$ true\n```", "unknown attributes titel"),
        ("```diff title=x\n-a\n```", "there is no file x"),
        ('```text title="x"\na\na\n```\n```diff title="x"\n-a\n```', "2 times, not once"),
        ("<!-- setup: moon -->", "`moon` is not one of environment"),
        ("<!-- setup of something -->", "expected `setup: NAMES`"),
        ("<!-- setup\nfalse\n-->", "the setup ended with 1"),
        ("<!-- not executed: x -->\n\ntext\n\n```sh\ntrue\n```", "right before a block"),
        ("<!-- not executed: -->\n```sh\ntrue\n```", "is not executed"),
        ('```console title="b"\n$ echo a\nb\n```', "prints something else"),
        ('```console title="b"\n$ echo a; sleep 600\nb\n```', "prints something else"),
        (
            '```console title="b"\n$ sh -c "trap \'exit 7\' INT; echo a; sleep 60 & wait"\na\n```',
            "b: it ended with 7 after Ctrl-C",
        ),
    ],
)
def test_pages_that_are_wrong(reader: Reader, page: Path, text: str, reason: str) -> None:
    fails(reader, page, text, reason)


SERVER = """
```python title="serve.py"
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", int("127.0.0.1:8081".split(":")[1])), Handler)
print("serving at http://127.0.0.1:8081", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("stopped", flush=True)
```

```console title="second terminal"
$ echo first
first
$ python3 serve.py
serving at http://127.0.0.1:8081
```

```console
$ curl -s -o /dev/null -w '%{http_code} %{url}\\n' http://127.0.0.1:8081
204 http://127.0.0.1:8081
```
"""


def test_another_terminal_is_waited_for_and_ended(reader: Reader, page: Path) -> None:
    more = """
```console title="second terminal"
...GET / HTTP/1.1" 204...
```

It gets a Ctrl-C here, so that the address is free again:

```console title="second terminal"
$ python3 serve.py
serving at http://127.0.0.1:8081
```
"""
    follow(reader, page, SERVER + more)


def test_output_that_never_comes(reader: Reader, page: Path) -> None:
    missing = '```console title="second terminal"\nsomething else\n```\n'
    broken = SERVER.replace("server.serve_forever()", "server.handle_request()")
    fails(reader, page, broken + missing, "prints something else")


def test_excluded_blocks_are_counted(page: Path) -> None:
    page.write_text("<!-- not executed: why -->\n```sh\ntrue\n```\n\n```console\n$ true\n```\n")
    assert [type(step) for step in parse(page)].count(Excluded) == 1


def test_an_empty_machine_and_packages_of_this_checkout(reader: Reader, page: Path) -> None:
    follow(
        reader,
        page,
        """
```console status=127
$ pharia-kernel --version
...
```

```console
$ python3 -m venv .venv
$ . .venv/bin/activate
$ pip install pharia-kernel "pharia-kernel-sdk[test]"
...
Successfully installed pharia-kernel-0... pharia-kernel-sdk-0...
$ python -c "import pharia_kernel; print(pharia_kernel.__file__)"
.../reader/.venv/lib/...
$ which pharia-kernel pharia-sdk pytest
.../reader/.venv/bin/pharia-kernel
.../reader/.venv/bin/pharia-sdk
.../reader/.venv/bin/pytest
$ pharia-kernel skill new haiku
haiku: a python-function skill
...
```
""",
    )
