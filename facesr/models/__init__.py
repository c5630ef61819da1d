from facesr.models.restorer import FaceRestorer

__all__ = ['FaceRestorer']
