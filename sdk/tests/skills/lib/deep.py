def fail(text: str) -> None:
    raise KeyError(text)
