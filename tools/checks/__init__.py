"""What CI and ``make nightly`` check."""
