"""A debugger that attaches to a run by the Debug Adapter Protocol."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from tests.dev.support import Author
from tests.support.kernel import PATIENCE

SKILL = """\
from pharia_kernel_sdk import Csi, skill

@skill
def halting(csi: Csi, input: str) -> str:
    answer = input.upper()
    breakpoint()
    return answer
"""


class Client:
    """https://microsoft.github.io/debug-adapter-protocol/specification"""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sent = 0

    async def ask(self, command: str, **arguments: Any) -> Any:
        """The body of the answer."""
        self.send(command, **arguments)
        sent = self._sent
        return await self.until(lambda message: message.get("request_seq") == sent)

    def send(self, command: str, **arguments: Any) -> None:
        self._sent += 1
        message = {"seq": self._sent, "type": "request", "command": command}
        body = json.dumps({**message, "arguments": arguments}).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def until(self, wanted: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                message = json.loads(await self._reader.readexactly(length))
                assert message.get("success", True), message
                if wanted(message):
                    return message.get("body", {})

    async def event(self, name: str) -> Any:
        return await self.until(lambda message: message.get("event") == name)

    def close(self) -> None:
        self._writer.close()


async def test_a_debugger_attaches(folder: Author) -> None:
    folder.write("halting.py", SKILL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with folder.serving("halting.py", "--debug", str(port)) as kernel:
        run = asyncio.create_task(kernel.run("halting", "one"))
        await kernel.logged(f"waits for a debugger to attach at 127.0.0.1:{port}")
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        await client.ask("initialize", adapterID="test", pathFormat="path")
        client.send("attach", justMyCode=True)
        await client.event("initialized")
        await client.ask("configurationDone")
        stopped = await client.event("stopped")
        trace = await client.ask("stackTrace", threadId=stopped["threadId"])
        assert (trace["stackFrames"][0]["name"], trace["stackFrames"][0]["line"]) == ("halting", 7)
        frame = trace["stackFrames"][0]["id"]
        value = await client.ask("evaluate", expression="answer", frameId=frame)
        assert value["result"] == "'ONE'"
        client.send("disconnect", terminateDebuggee=False)
        answer = await asyncio.wait_for(run, PATIENCE)
        assert answer.json() == "ONE"
        client.close()
