"""Where models' tokenizers come from, and the processes that split texts with them."""
