"""Training objectives that models are composed of."""
