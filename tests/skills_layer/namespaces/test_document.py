import pytest

from pharia_kernel.config.namespaces import ChatSkillEntry, SkillEntry
from pharia_kernel.config.tools import McpServer
from pharia_kernel.errors import NamespaceMisconfigured
from pharia_kernel.skills.namespaces.document import MAX_SKILLS, Document, parse

CHAT = '{ type = "chat", name = "c", version = "1", model = "m", system_prompt = "p" }'


def chat_with(more: str) -> str:
    return CHAT.replace(" }", f", {more} }}")


def wrong(text: str) -> NamespaceMisconfigured:
    with pytest.raises(NamespaceMisconfigured) as caught:
        parse("team", text)
    return caught.value


def test_everything_that_a_description_can_have() -> None:
    text = """
        mcp-servers = ["http://a/mcp", { url = "https://b/mcp", token = "t", timeout = "5s" }]
        native-tools = ["add", "subtract"]

        [[skills]]
        name = "greet"

        [[skills]]
        name = "my.skill"
        tag = "v1"
        run-timeout = "30s"
        memory-limit = "64MiB"
        max-runs = 2
        allowed-tools = []

        [[skills]]
        type = "chat"
        name = "poet"
        version = "1"
        model = "m"
        system_prompt = \"\"\"In
        verse.\"\"\"
    """
    assert parse("team", text) == Document(
        skills=[
            SkillEntry(name="greet"),
            SkillEntry(
                name="my.skill",
                tag="v1",
                run_timeout=30,
                memory_limit=64 * 1024**2,
                max_runs=2,
                allowed_tools=[],
            ),
            ChatSkillEntry(name="poet", version="1", model="m", system_prompt="In\n        verse."),
        ],
        mcp_servers=[
            McpServer(url="http://a/mcp"),
            McpServer(url="https://b/mcp", token="t", timeout=5),  # type: ignore[arg-type]
        ],
        native_tools=["add", "subtract"],
        warnings=[],
    )


def test_line_ends_of_windows() -> None:
    assert wrong("skills = []\r\nmcp-servers = [\r\n  5]").extra["line"] == 3


# --- what the original ignored --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("skills = []\nowner = 'me'", "line 2, column 1: `owner`: unknown key, ignored"),
        (
            "skills = []\n[mcp_servers]\nx = 1",
            "line 2, column 1: `mcp_servers`: unknown key (did you mean `mcp-servers`?), ignored",
        ),
        (
            "skills = [{ name = 'a', description = 'x' }]",
            "line 1, column 25: `skills[0].description`: unknown key, ignored",
        ),
        (
            "skills = [{ name = 'a', version = '1' }]",
            "line 1, column 25: `skills[0].version`: ignored: for people, and only chats have it; "
            "a component's version is its `tag`",
        ),
        (
            f"skills = [{chat_with('tag = 1')}]",
            "line 1, column 89: `skills[0].tag`: ignored: a chat has no component, so no tag",
        ),
        (
            "skills = ['a', { name = 'a' }]",
            "line 1, column 16: `skills[1]`: listed before, ignored",
        ),
        (
            "skills = []\nmcp-servers = ['http://a', 'http://a']",
            "line 2, column 28: `mcp-servers[1]`: listed before, ignored",
        ),
        (
            "skills = []\nnative-tools = ['add', 'add']",
            "line 2, column 24: `native-tools[1]`: listed before, ignored",
        ),
    ],
)
def test_what_the_original_ignored_is_a_warning(text: str, warning: str) -> None:
    document = parse("team", text)
    assert document.warnings == [warning]
    assert len(document.skills) <= 1
    assert len(document.mcp_servers) <= 1
    assert len(document.native_tools) <= 1


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "cause"),
    [
        ("skills = [\n", 2, 1, "not TOML: Invalid value at the end"),
        ("skills = []\nb", 2, 2, "not TOML: Expected '=' after a key in a key/value pair"),
        ("skills = []\nskills = []", 2, 12, "not TOML: Cannot overwrite a value"),
        ("native-tools = []", 1, 1, "`skills`: is missing"),
        ("skills = 5", 1, 1, "`skills`: expected a list, got `5`"),
        ("skills = [\n  5]", 2, 3, "`skills[0]`: expected a table such as"),
        ("skills = [\n  {}]", 2, 3, "`skills[0].name`: is missing"),
        ("[[skills]]\ntag = 'x'", 1, 1, "`skills[0].name`: is missing"),
        ("[[skills]]\nname = 'a/b'", 2, 1, "`skills[0].name`: expected a skill name"),
        ("[[skills]]\nname = 'a'\ntag = 5", 3, 1, "`skills[0].tag`: expected a string"),
        ("[[skills]]\nname = 'a'\ntags = 'x'", 3, 1, "unknown key (did you mean `tag`?)"),
        ("[[skills]]\nname='a'\nrun_timeout='5s'", 3, 1, "(did you mean `run-timeout`?)"),
        ("[[skills]]\nname='a'\nrun-timeout=5", 3, 1, "expected a duration with its unit"),
        ("[[skills]]\nname = 'a'\nmodel = 'm'", 3, 1, 'only for skills of type = "chat"'),
        ("[[skills]]\nname = 'a'\ntype = 'x'", 3, 1, '`skills[0].type`: expected "chat"'),
        ("[[skills]]\nname = 'a'\ntype = 'chat'", 1, 1, "`skills[0].model`: is missing"),
        (f"skills = [\n{chat_with('max-runs=1')}]", 2, 79, 'not for skills of type = "'),
        ("skills=['a',\n{name='a', tag='b'}]", 2, 1, "an entry with this name stands before"),
        (f"skills=[{CHAT},\n'c']", 2, 1, "`skills[1]`: an entry with this name stands before"),
        ("skills=[]\nnative-tools=['mul']", 2, 15, "`native-tools[0]`: expected 'add', 'subtract'"),
        ("skills=[]\nmcp-servers=['x']", 2, 14, "`mcp-servers[0].url`: expected an http:// or"),
        ("skills=[]\nmcp-servers=[{url='http://x', tok=1}]", 2, 31, "tok`: unknown key"),
        (
            "skills=[]\nmcp-servers=['http://x', {url='http://x', timeout='5s'}]",
            2,
            26,
            "`mcp-servers[1]`: an entry with this URL stands before, and differs",
        ),
        (f"skills={['a'] * (MAX_SKILLS + 1)}", 1, 1, f"`skills`: more than {MAX_SKILLS} items"),
        ("skills=[]\n" + "a." * 20 + "b=1", 2, 32, "a key has at most 16 parts"),
        ("skills=" + "[" * 5000, 1, 1, "values are nested too deeply"),
        ("skills=" + "9" * 5000, 1, 1, "a number has too many digits"),
        ("skills=[]\na='\0'", 2, 4, "not TOML: Found invalid character '\\x00'"),
    ],
)
def test_mistakes_have_a_place(text: str, line: int, column: int, cause: str) -> None:
    error = wrong(text)
    first = error.extra["causes"][0]
    assert first.startswith(f"line {line}, column {column}: ")
    assert cause in first
    assert (error.extra["line"], error.extra["column"]) == (line, column)
    assert cause in error.detail
    assert "`team`" in error.detail
    assert error.problem()["line"] == line


def test_all_mistakes_are_told() -> None:
    error = wrong("skills = [{ nam = 'a' }, { name = '..' }]\nnative-tools = ['mul']")
    assert [cause.split(": ")[1] for cause in error.extra["causes"]] == [
        "`skills[0].name`",
        "`skills[0].nam`",
        "`skills[1].name`",
        "`native-tools[0]`",
    ]
    assert "There are 3 more mistakes" in error.detail


def test_so_many_mistakes_that_nobody_reads_them() -> None:
    error = wrong(f"skills = {[{'n': 1}] * 500}".replace(":", "=").replace("'n'", "n"))
    assert len(error.extra["causes"]) == 20
    assert len(str(error.problem())) < 5000


def test_secrets_are_not_told() -> None:
    secret = "hunter2"
    text = f"""
        skills = []
        mcp-servers = [
            {{ url = "http://me:{secret} @x", token = "{secret}\\n" }},
            {{ url = "http://x", headers = {{ A = "{secret}\\n" }} }},
            "ftp://{secret}@x",
        ]
    """
    problem = wrong(text).problem()
    assert len(problem["causes"]) == 4
    assert secret not in str(problem)
