"""Processes for work that would hold up the event loop, or has to be stopped when it takes long."""
