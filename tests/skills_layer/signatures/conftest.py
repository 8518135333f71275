from tests.support.registry import registry_server

__all__ = ["registry_server"]
