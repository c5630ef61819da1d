"""How good HQ images are: metrics, a loader measured by them, the test of a split."""
