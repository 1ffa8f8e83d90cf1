"""Ways to run the book's own classifier in a reader's browser, measured beside each other."""
