"""One module per measurement; each turns a ``Bench`` into rows of the table."""
