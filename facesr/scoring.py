"""Scoring HQ images as the organiser of the competition does."""
from facesr.predictions import check_names, open_predictions, verify_zip

__all__ = ['check_names', 'open_predictions', 'verify_zip']
