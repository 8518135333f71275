"""The built-in document index: documents in SQLite, their sections as vectors in Qdrant."""
