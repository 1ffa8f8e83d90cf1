"""What builds the book, and what Sphinx loads while it does."""
