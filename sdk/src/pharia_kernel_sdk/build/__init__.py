"""Makes a component of an author's Python module.

``project`` finds the module, ``probe`` imports it under plain Python, ``function_imports`` finds
the imports that this misses, ``images`` has components with Python and the SDK in them,
``preload`` imports the module there, ``snapshot`` turns the result into a component, and
``component`` puts all of it together.
"""
