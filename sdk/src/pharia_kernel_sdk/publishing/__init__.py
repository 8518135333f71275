"""Getting components into an OCI registry, and kernels to serve them."""
