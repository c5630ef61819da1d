"""Losses that MMEditing lacks."""
