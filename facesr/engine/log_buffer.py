"""The values between two lines of the log."""
import torch
from mmcv.runner.log_buffer import LogBuffer

from facesr.utils import dist


class LazyLogBuffer(LogBuffer):
    """mmcv's `LogBuffer` that takes tensors as they are and reads them from the device only for a log line.

    Values may also be functions without arguments, called when they are read (times of CUDA events).
    With several processes the averages are over all of them.

    Args:
        length (int): Values per name to keep at most. Default: 1.
    """

    def __init__(self, length: int = 1):
        super().__init__()
        self.length = length

    def update(self, vars: dict, count: int = 1) -> None:
        """Append one value per name; `count` is its weight in the average."""
        super().update(vars, count)
        for key in vars:
            del self.val_history[key][:-self.length], self.n_history[key][:-self.length]

    def average(self, n: int = 0) -> None:
        """Average what came since the last call, which ends the window (`n` is mmcv's; here it is the window's).

        Called again in the same iteration, by another logger, it leaves the averages as they are.
        """
        if not self.val_history:
            return
        self.read()
        super().average()
        values = dist.mean([float(value) for value in self.output.values()])
        self.output.update(zip(self.output, values, strict=True))
        self.val_history.clear()
        self.n_history.clear()

    def read(self) -> None:
        """Turn what is kept into floats, with one transfer from the device."""
        tensors = [(values, i) for values in self.val_history.values() for i, value in enumerate(values)
                   if torch.is_tensor(value)]
        if tensors:
            numbers = torch.stack([values[i].detach().float().reshape(()) for values, i in tensors]).tolist()
            for (values, i), number in zip(tensors, numbers, strict=True):
                values[i] = number
        for values in self.val_history.values():
            values[:] = [float(value()) if callable(value) else float(value) for value in values]

    def state_dict(self) -> dict:
        """What is kept, as plain values."""
        self.read()
        return dict(values={key: list(values) for key, values in self.val_history.items()},
                    counts={key: list(counts) for key, counts in self.n_history.items()})

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
        self.val_history.update({key: list(values) for key, values in state['values'].items()})
        self.n_history.update({key: list(counts) for key, counts in state['counts'].items()})
