"""Document indexes: a remote one, and one that the kernel has built in."""
