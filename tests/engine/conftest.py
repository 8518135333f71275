from tests.support.components import artifacts, new_pool

__all__ = ["artifacts", "new_pool"]
