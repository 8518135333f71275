"""What runs inside of components only.

``entry_function`` and ``entry_stream`` are the modules that a component exports; they and ``wasm``
need the generated bindings (``wit_world``), which exist nowhere else.
"""
