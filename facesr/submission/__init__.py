"""HQ images as they are handed in: read without trusting them, scored as the organiser does, zipped. Needs no torch."""
