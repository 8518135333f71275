"""User space: processes that compile and run guests, and the kernel's side of talking to them."""
