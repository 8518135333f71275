"""The command ``pharia-sdk``: a module per subcommand."""
