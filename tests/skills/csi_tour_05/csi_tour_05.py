"""Makes calls of WIT 0.5 by their names; bodies and answers are those of `/csi/v2`.

It writes a message in which each call leaves its name, and whose payload are the answers.
"""

import json

from chat_messages import CHAT_CALLS
from wit_world import exports
from wit_world.imports.streaming_output import (
    BeginAttributes,
    MessageItem_MessageAppend,
    MessageItem_MessageBegin,
    MessageItem_MessageEnd,
    StreamOutput,
)


class MessageStream(exports.MessageStream):
    def run(self, input: bytes, output: StreamOutput) -> None:
        answers = []
        with output:
            output.write(MessageItem_MessageBegin(BeginAttributes(None)))
            for name, body in json.loads(input):
                answers.append(CHAT_CALLS[name](body))
                output.write(MessageItem_MessageAppend(name))
            output.write(MessageItem_MessageEnd(json.dumps(answers).encode()))
