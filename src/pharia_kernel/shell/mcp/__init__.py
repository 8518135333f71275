"""The skills of a namespace as tools of an MCP server."""
