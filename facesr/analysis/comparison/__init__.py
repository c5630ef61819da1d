"""Several ways to make HQ images, measured on the same pairs: what `tools/compare.py` does."""
