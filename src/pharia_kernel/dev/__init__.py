"""Development mode: an author's source is served without building a component of it.

The source runs as a plain process (``native``) that speaks the protocol of the engines, so the rest
of the kernel can't tell it from a component.
"""
