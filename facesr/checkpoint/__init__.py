"""Checkpoints: reading safely, writing whole, names in a work dir, weights into a model, mixing two."""
