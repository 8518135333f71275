"""Tools of MCP servers.

``McpServers`` is the way in: which namespace uses which servers. Beneath it, a ``Server`` keeps one
``Session`` open per URL and credentials, and follows its list of tools.
"""

from pharia_kernel.drivers.tools.mcp.endpoint import Endpoint, McpServerConfig
from pharia_kernel.drivers.tools.mcp.server import HealthState, Policy
from pharia_kernel.drivers.tools.mcp.servers import McpServers, ServerHealth, ServerTools

__all__ = [
    "Endpoint",
    "HealthState",
    "McpServerConfig",
    "McpServers",
    "Policy",
    "ServerHealth",
    "ServerTools",
]
