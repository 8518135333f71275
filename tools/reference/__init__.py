"""Writes ``docs/reference`` from the code: what a name is called, takes, answers and raises.

Nothing is said here that is not in a docstring, an option's help, the OpenAPI document or a comment
of the WIT. A public name without any of these is an error.
"""
