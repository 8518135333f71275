"""Names of spans, and keys of their attributes. Those of metrics are in ``metrics``.

Spans are called what the original kernel calls them. Attributes follow the semantic conventions of
OpenTelemetry where there are any: HTTP (stable), generative AI and MCP (in development, kept in
``open-telemetry/semantic-conventions-genai``).
"""

from __future__ import annotations

SCOPE = "pharia-kernel"
"""Name of the service, and of the instrumentation scope."""

# --- spans ----------------------------------------------------------------------------------------

CHECK_PERMISSIONS = "check_permissions"
LOAD_SKILL = "load_skill"
DOWNLOAD = "download"
COMPILE = "compile"
LOAD = "load"
"""Into the engines. Not in the original, whose engine is the kernel itself."""
SKILL_EXECUTION = "skill_execution"
CHAT = "chat"
TEXT_COMPLETION = "text_completion"
EXPLAIN = "explain"
DOCUMENT = "document"
EXECUTE_TOOL = "execute_tool"
"""Followed by the name of the tool."""
CONCURRENT = "_concurrent"
"""Suffix to the name of a function that is called with several requests at once."""

OUTPUT = "log"
"""Event: a line that a skill printed."""

# --- attributes of the kernel's own ---------------------------------------------------------------

SKILL = "skill"
"""``namespace/name``."""
RUN_ID = "run_id"
DIGEST = "digest"
COLD = "cold"
"""Whether the run had to wait for the skill to be loaded."""
SECONDS = "seconds"
"""How long a stage of loading took, with what was over before the request came."""
REQUESTS = "requests"
MODEL = "model"
TEXT_LENGTH = "text_len"
MAX_TOKENS = "max_tokens"
LANGUAGES = "languages"
NAMESPACE = "namespace"
COLLECTION = "collection"
MAX_RESULTS = "max_results"
MIN_SCORE = "min_score"
NAME = "name"
TOOL_NAME = "tool_name"

# --- general conventions --------------------------------------------------------------------------

ERROR_TYPE = "error.type"
"""The ``code`` of the kernel's error, or the class of an unexpected exception."""
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
LOG_IOSTREAM = "log.iostream"
LOG_ORIGINAL = "log.record.original"

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
PROTOCOL_VERSION = "network.protocol.version"
USER_AGENT = "user_agent.original"
URL_PATH = "url.path"
URL_QUERY = "url.query"
URL_SCHEME = "url.scheme"

# --- generative AI --------------------------------------------------------------------------------

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_STOP = "gen_ai.request.stop_sequences"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_REASONING = "gen_ai.request.reasoning.level"
OUTPUT_TYPE = "gen_ai.output.type"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
GEN_AI_TOOL_NAME = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
MCP_METHOD = "mcp.method.name"
