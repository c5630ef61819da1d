"""What costs four of the five CPU-seconds of a tool's start, imported once by the server of `forked`."""
import cv2  # noqa: F401
import lmdb  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import matplotlib.figure  # noqa: F401
import scipy.stats  # noqa: F401
import skimage  # noqa: F401
import torch._dynamo  # noqa: F401
import torch.distributed  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision  # noqa: F401
