"""Which device to use: CUDA where it works, the CPU where there is no card or the user says so, an error otherwise."""
import os
import re
import warnings
from functools import cache

import torch

from facesr.utils.choices import CPU
from facesr.utils.errors import UserError

# What torch says where there is no card; whatever else it says, there is one that does not work.
NO_CARD = ('no NVIDIA driver', 'No CUDA GPUs', 'might not have a CUDA gpu', 'not compiled with CUDA')
# Builds of torch for CUDA 12.6 serve these capabilities; the last of them is of torch 2.14 (pytorch/pytorch#190385).
OLDER = ((5, 0), 'torch 2.14 or older for CUDA 12.6 (pip install torch torchvision --index-url '
                 'https://download.pytorch.org/whl/cu126)')
_chosen = None


def choose_device(name: str | None) -> None:
    """Take what a user asks for: 'cpu', or None for CUDA where there is a card."""
    global _chosen
    _chosen = name


def cuda_available() -> bool:
    """Whether to use CUDA.

    Raises:
        UserError: There is a card, but this torch or the driver cannot use it: days on the CPU would be no help.
    """
    if _chosen == CPU:
        return False
    return _cuda_works()


def explain_cpu() -> str:
    """Why the CPU is used."""
    return '--device cpu' if _chosen == CPU else 'no CUDA device found'


@cache
def _cuda_works() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch says on many lines what is said in one here
        if not torch.cuda.is_available():
            _refuse_a_broken_card()
            return False
        number = int(os.environ.get('LOCAL_RANK', 0))  # torchrun's
        if number < torch.cuda.device_count():
            _refuse_an_old_card(torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number))
    return True


def _refuse_a_broken_card() -> None:
    if torch.version.cuda is None:
        return
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = ' '.join(str(error).split())
    else:
        return
    if any(sign in reason for sign in NO_CARD):
        return
    found = re.search(r'too old \(found version (\d+)\)', reason)
    if found:
        major, minor = divmod(int(found[1]), 1000)
        raise UserError(f'the NVIDIA driver is too old for this torch: it serves CUDA {major}.{minor // 10}, torch '
                        f'{torch.__version__} needs {torch.version.cuda}; update the driver, or install a torch for '
                        f'CUDA {major}.{minor // 10} or older; to use the CPU on purpose: --device cpu')
    raise UserError(f'there is a CUDA device, but it does not work ({reason[:200]}); to use the CPU on purpose: '
                    '--device cpu')


def _refuse_an_old_card(name: str, capability: tuple) -> None:
    numbers = [int(found[1]) for arch in torch.cuda.get_arch_list() if (found := re.match(r'sm_(\d+)', arch))]
    if not numbers or capability >= divmod(min(numbers), 10):
        return
    first, build = OLDER
    remedy = f'install {build}; ' if capability >= first else ''
    raise UserError(f'{name} has compute capability {".".join(map(str, capability))}, but the kernels of torch '
                    f'{torch.__version__} begin at {".".join(map(str, divmod(min(numbers), 10)))}; {remedy}to use the '
                    'CPU on purpose: --device cpu')
