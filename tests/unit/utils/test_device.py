"""Which device is used, and what is refused, as torch would tell it of other machines."""
import pytest
import torch

from facesr.utils import device
from facesr.utils.errors import UserError

TOO_OLD = ('The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by '
           'downloading and installing a new version')


@pytest.fixture
def machine(monkeypatch):
    """Lets torch tell of a machine: what CUDA's start says, or a card's capability."""

    def tell(says=None, capability=None, cuda='13.0'):
        def start():
            if says:
                raise RuntimeError(says)

        device._cuda_works.cache_clear()
        monkeypatch.setattr(torch.version, 'cuda', cuda)
        for name, answer in {'is_available': capability is not None, 'device_count': int(capability is not None),
                             'get_device_name': 'a card', 'get_device_capability': capability,
                             'get_arch_list': ['sm_75', 'sm_80', 'sm_120', 'compute_120']}.items():
            monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
        monkeypatch.setattr(torch.cuda, 'init', start)

    yield tell
    device.choose_device(None)
    device._cuda_works.cache_clear()


def test_a_card_that_serves_is_used(machine):
    for capability in ((7, 5), (9, 0), (12, 0)):
        machine(capability=capability)
        assert device.cuda_available()


@pytest.mark.parametrize('says', ['Found no NVIDIA driver on your system.', 'No CUDA GPUs are available', None])
def test_without_a_card_the_cpu_is_used(says, machine):
    machine(says)
    assert not device.cuda_available() and device.explain_cpu() == 'no CUDA device found'
    machine(TOO_OLD, cuda=None)  # a build for CPUs does not ask
    assert not device.cuda_available()


@pytest.mark.parametrize('told, words', [
    (dict(says=TOO_OLD), ['serves CUDA 12.2', 'needs 13.0', 'update the driver']),
    (dict(says='Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility'), ['Error 804']),
    (dict(capability=(6, 1)), ['a card has compute capability 6.1', 'begin at 7.5', 'cu126']),
    (dict(capability=(3, 5)), ['a card has compute capability 3.5']),
])
def test_what_does_not_serve_is_refused_unless_the_cpu_is_asked_for(told, words, machine):
    machine(**told)
    with pytest.raises(UserError) as error:
        device.cuda_available()
    assert all(word in str(error.value) for word in [*words, '--device cpu'])
    assert ('cu126' in str(error.value)) == ('cu126' in words)
    device.choose_device('cpu')
    assert not device.cuda_available() and device.explain_cpu() == '--device cpu'
