"""The Cognitive System Interface: the system calls of the kernel, typed, whoever makes them."""
