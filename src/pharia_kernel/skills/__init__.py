"""What should run (namespaces), where it comes from (registries), what is ready (store), and one
run (runtime).
"""
