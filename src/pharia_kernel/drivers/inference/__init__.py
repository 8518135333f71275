"""Inference drivers: one module per kind of provider, one interface (``base.InferenceDriver``)."""
