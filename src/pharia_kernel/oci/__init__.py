"""A client for registries of the OCI Distribution Specification."""
