"""Tools that skills and models may call."""
