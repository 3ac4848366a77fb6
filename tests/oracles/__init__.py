"""Naive definitions that the library is tested against: float64, patch by patch, slow and plain."""
