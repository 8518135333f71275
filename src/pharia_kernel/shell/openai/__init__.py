"""Chat-shaped skills as models of an OpenAI-compatible server."""
