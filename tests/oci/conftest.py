from tests.support.registry import basic_registry, registry_server, tls_registry

__all__ = ["basic_registry", "registry_server", "tls_registry"]
