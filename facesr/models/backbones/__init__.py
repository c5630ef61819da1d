"""Generators that MMEditing lacks."""
