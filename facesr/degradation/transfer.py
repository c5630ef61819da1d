"""Copies between host and device that do not stop the host: by way of pinned memory."""
import torch


def upload(tensor: torch.Tensor, device) -> torch.Tensor:
    """A host's tensor on a device; a CUDA device is not waited for, and gets it in the order of the current stream."""
    if torch.device(device).type != 'cuda':
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensor: torch.Tensor) -> torch.Tensor:
    """A device's tensor on the host. The host waits for what the current stream has to do before it, and no more."""
    if not tensor.is_cuda:
        return tensor
    there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    arrived.synchronize()
    return there
