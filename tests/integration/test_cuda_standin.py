"""What training does on a CUDA device: a real one, or the stand-in that FACESR_CUDA_STANDIN names (docs/cuda.md)."""
import pytest
import torch
from conftest import SMALL_OPTIONS
from cuda_device import CARD_MEMORY

pytestmark = pytest.mark.gpu_standin
TRAIN, SRRESNET = 'tools/train.py', 'configs/srresnet_ffhq.py'
AMPERE = dict(FAKE_CUDA_MAJOR='8', FAKE_CUDA_MINOR='0')  # which has bf16


@pytest.fixture
def standin(cuda):
    """The stand-in, for what a real device cannot be asked to do."""
    if cuda.real:
        pytest.skip('only the stand-in can be made to')
    return cuda


@pytest.fixture
def training(tiny_root, tmp_path):
    """Arguments of a small training, without validation."""
    return [SRRESNET, '--data-root', tiny_root, '--work-dir', tmp_path / 'work', '--no-validate', '--cfg-options',
            *SMALL_OPTIONS, f'data.train.ann_file={tiny_root}/train.txt', 'gt_patch_size=32', 'log_config.interval=1',
            'data.workers_per_gpu=0', 'data.train_dataloader.samples_per_gpu=2']


@pytest.mark.parametrize('late', ['', '1'], ids=['prompt', 'late'])
def test_three_iterations_of_each_kind_are_the_cpus(late, cuda):
    found = cuda.probe('kinds', **AMPERE, FAKE_CUDA_LAZY=late)
    assert len(found) >= 12
    for kind, this in found.items():
        half = '16' in kind  # autocast has other lists of operations for CUDA than for the CPU
        weights, losses, metrics = (2e-3, 1e-2, 0.1) if half or cuda.real else (1e-6, 1e-6, 1e-5)
        assert this['steps'] == 3 and this['names'], kind
        assert this['weights'] <= weights and this['losses'] <= losses and this['metrics'] <= metrics, (kind, this)


def test_at_most_one_wait_an_iteration(cuda):
    found = cuda.probe('waits', **AMPERE)
    jpegs = 5  # batches that are degraded ahead, each with one wait of its own thread
    assert len(found) >= 12 and all(count <= 3 for kind, count in found.items() if kind != 'device'), found
    assert found['device'] <= 3 + jpegs


def test_batches_degraded_ahead_are_the_same_bits(cuda):
    for name, this in cuda.probe('degrade', FAKE_CUDA_LAZY='1').items():
        assert this['same'], name
        assert this['waits'] <= this['jpegs'], this  # of the preparing thread; the training one has none
    assert this['batches'] == 2 and this['jpegs'] <= 8


def test_the_rehearsal_catches_mistakes(standin):
    found = standin.probe('faults', FAKE_CUDA_LAZY='1')
    caught = {'kernel on the host': 'same device', 'generator of the host': "'cuda'",
              'images on the host': 'should be the same', 'flag without waiting': 'a good step was skipped',
              'hidden item': 'synchronizing CUDA operation'}
    assert found.keys() == caught.keys()
    assert all(words in (found[name] or '') for name, words in caught.items()), found


def test_memory_is_as_computed(cuda):
    for dtype, taken in cuda.probe('small_memory').items():
        tolerance = 0.3 if cuda.real else 0.05 if '16' in dtype else 0.01
        assert taken['computed'] == pytest.approx(taken['allocated'], rel=tolerance), dtype


def test_shipped_configs_fit_a_card_of_6_gb(cuda):
    """5,400 MiB, as CUDA itself takes some; cuDNN's workspace is in it."""
    found = cuda.probe('memory', 5400, *CARD_MEMORY, run=cuda.run_anew, FAKE_CUDA_COMPUTE='0',
                       FAKE_CUDA_CARD='RTX 2060')
    assert found.keys() == CARD_MEMORY.keys()
    for name, this in found.items():
        assert cuda.real or this['allocated'] == pytest.approx(CARD_MEMORY[name], rel=0.02), name


def test_a_full_card_ends_in_one_line_with_everything_saved(cuda, training, tmp_path):
    done = cuda.run(cuda.PROBE, 'disturbed', 'shortage', 3, *training, 'memory_limit_gb=0.5')
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith('error: out of memory on cuda:0 in iteration 3; use --cfg-options')
    assert 'iteration 2 is saved' in last and 'Traceback' not in done.stderr
    assert (tmp_path / 'work/iter_2.pth').is_file()


def test_killed_and_resumed(cuda, training):
    more = [*training, 'checkpoint_config.interval=2', '--amp', 'fp16', '--resume', 'auto']
    assert cuda.run(cuda.PROBE, 'disturbed', 'kill', 4, *more).returncode == -9
    done = cuda.run(TRAIN, *more[:-4], 'total_iters=3', *more[-4:])
    assert done.returncode == 0 and 'at iteration 2' in done.stderr, done.stderr[-3000:]


def test_nan_stops_training(cuda, training):
    done = cuda.run(TRAIN, *training, 'optimizers.generator.lr=1e30')
    assert done.returncode == 2 and 'the loss was NaN or infinite 10 times in a row' in done.stderr.splitlines()[-1]


def test_two_devices_under_torchrun(standin, training):
    """Over gloo; NCCL is for real devices."""
    training.remove('--no-validate')
    done = standin.run(standin.PROBE, 'torchrun', 2, TRAIN, '--launcher', 'pytorch', *training, 'total_iters=2',
                       'evaluation.interval=2', FAKE_CUDA_DEVICES='2')
    assert done.returncode == 0, done.stderr[-4000:]
    assert '2 processes, each on CUDA (' in done.stderr and 'done: 2 iterations' in done.stderr


@pytest.mark.parametrize('card, words', [
    (dict(FAKE_CUDA_OLD_DRIVER='1'), ('driver is too old', 'it serves CUDA 12.2', f'needs {torch.version.cuda}')),
    (dict(FAKE_CUDA_MAJOR='6', FAKE_CUDA_MINOR='1'), ('compute capability 6.1', 'begin at 7.5', 'CUDA 12.6', 'cu126')),
], ids=['driver', 'card'])
def test_what_does_not_serve_is_refused(card, words, standin, training):
    done = standin.run(TRAIN, *training, 'total_iters=1', **card)
    assert done.returncode == 2 and done.stderr.count('\n') == 1, done.stderr
    assert done.stderr.startswith('error: ') and '--device cpu' in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    if 'FAKE_CUDA_OLD_DRIVER' in card:
        done = standin.run(TRAIN, '--device', 'cpu', *training, 'total_iters=1', **card)
        assert done.returncode == 0 and 'on the CPU (1 threads; --device cpu)' in done.stderr, done.stderr


def test_memory_that_runs_out_afterwards_is_a_line(standin, tiny_root, tmp_path):
    """When a network is put on the card, and while tools/restore.py measures how far tiles have to overlap."""
    from facesr.checkpoint.io import save_checkpoint
    from facesr.config import load_config
    from facesr.models.build import build_restorer

    def line(tool, channels, *arguments):
        net, weights = {'model.generator.mid_channels': channels, 'model.generator.num_blocks': 1}, tmp_path / 'net.pth'
        save_checkpoint(weights, build_restorer(load_config(SRRESNET, net)))
        done = standin.run(f'tools/{tool}.py', SRRESNET, weights, *arguments, '--cfg-options',
                           *(f'{key}={value}' for key, value in net.items()), FAKE_CUDA_MEMORY='40')
        assert done.returncode == 2 and 'Traceback' not in done.stderr
        return done.stderr.splitlines()[-1]

    assert ('memory does not suffice for the network; free the device, or use --device cpu'
            in line('test', 256, '--data-root', tiny_root))
    restoring = line('restore', 64, tiny_root / 'test/LQ', '--out-dir', tmp_path / 'hq', '--tile', '12')
    assert 'memory does not suffice to measure' in restoring and '--overlap 16' in restoring
