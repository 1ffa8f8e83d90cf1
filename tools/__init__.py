"""What makes, builds and checks the book. Run from the repository's root, as ``python -m tools.NAME``."""
