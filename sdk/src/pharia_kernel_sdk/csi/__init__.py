"""The Cognitive System Interface: its calls (``protocol``), and the types that they work with."""
