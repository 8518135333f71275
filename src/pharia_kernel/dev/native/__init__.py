"""What runs in the author's own Python, which may be any version from 3.11 and lack all packages of
the kernel: so nothing here imports more than the standard library, and the author's SDK.
"""
