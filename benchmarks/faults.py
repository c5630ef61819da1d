"""Do to trainings, files and configs what a hostile environment does, and count what is lost or silently wrong.

    python benchmarks/faults.py                    (quick: some minutes on two cores)
    python benchmarks/faults.py --full --out docs/faults.md

Lost is a finished iteration that --resume does not have (after a SIGKILL: one before the newest checkpoint), or a file.
Silently wrong is another result, or an input that is taken for what it is not, without a word. The tables of the tests
(tests/unit/engine/test_going_on.py and others) hold the same, and that everything else is as it should be.
"""
import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import facesr.register  # noqa: F401

import cv2
import kill
import torch
from mmcv.runner import HOOKS, Hook

from facesr.analysis.logs import read_runs
from facesr.analysis.work_dir import find_sources
from facesr.checkpoint.integrity import check_archive
from facesr.checkpoint.io import read_checkpoint, save_checkpoint
from facesr.checkpoint.naming import LATEST
from facesr.checkpoint.safetensors import encode_safetensors
from facesr.config import load_config
from facesr.datasets import cache
from facesr.datasets.annotation import scan_folder, write_annotation
from facesr.datasets.sample import make_sample
from facesr.engine.train import train
from facesr.utils.errors import UserError
from facesr.utils.files import write_atomic
from facesr.utils.tables import markdown_table
from facesr.utils.terminal import plain, say

ROOT = Path(__file__).resolve().parent.parent
SMALL = {'model.generator.num_blocks': 1, 'model.generator.mid_channels': 8, 'gt_patch_size': 32}
RARELY = {'checkpoint_config.interval': 1000}
HOLD = ('import sys, time\nfrom facesr.utils.lock import WorkDirLock\n'
        'with WorkDirLock(sys.argv[1]):\n    print(flush=True)\n    time.sleep(600)')


class Found(NamedTuple):
    """How often something was tried, and what came of it."""
    tried: int
    lost: int
    wrong: int
    then: str  # what happens, in words


@HOOKS.register_module(force=True)  # tests run this file more than once in a process
class FaultHook(Hook):
    """Does something after an iteration, within training."""
    action: Callable = None

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner):
        """See `Hook`."""
        if runner.done == self.at:
            FaultHook.action(runner)


class Bench:
    """Small data in FFHQ's layout, and trainings on them in new work dirs.

    Args:
        folder (Path): Where all goes.
        full (bool): As many attempts as the docs' table has.
    """

    def __init__(self, folder: Path, full: bool):
        self.folder, self.root, self.full, self._number = folder, folder / 'data', full, 0
        make_sample(folder / 'sample')
        for part, side in {'train/GT': 512, 'val/GT': 64, 'val/LQ': 16}.items():
            (self.root / part).mkdir(parents=True)
            for path in sorted((folder / 'sample' / part).iterdir())[:2]:
                image = cv2.imread(str(path))
                start = (image.shape[0] - side) // 2
                cv2.imwrite(str(self.root / part / path.name), image[start:start + side, start:start + side])
        write_annotation(scan_folder(self.root / 'train/GT'), self.root / 'train.txt')

    def work_dir(self) -> Path:
        """A new one."""
        self._number += 1
        return self.folder / f'work{self._number}'

    def train(self, work: Path, total: int, root: Path | None = None, resume=None, action: Callable | None = None,
              at: int = 2, validate: bool = False, **options) -> str:
        """Train to an iteration, and do `action` after another; returns the last word, if it is an error."""
        root = root or self.root
        FaultHook.action = staticmethod(action) if action else None
        how = {'data.train.ann_file': str(root / 'train.txt'), 'data.workers_per_gpu': 0, 'log_config.interval': 1,
               'data.train_dataloader.samples_per_gpu': 1, 'total_iters': total, 'evaluation.interval': 1,
               'custom_hooks': [dict(type='FaultHook', at=at)] if action else [], 'work_dir': str(work), **SMALL,
               **options}
        try:
            train(load_config(ROOT / 'configs/srresnet_ffhq.py', how, str(root)), 'run', resume, validate)
        except UserError as error:
            return str(error)
        return ''


def newest(work: Path) -> int:
    """The iteration that `--resume` would go on from; -1 if there is none."""
    try:
        return read_checkpoint(work / LATEST)['meta']['iter']
    except UserError:
        return -1


def log_of(work: Path) -> str:
    """All that a run's logs say."""
    return ''.join(path.read_text() for path in work.glob('*.log'))


def kills(bench: Bench) -> Found:
    """SIGKILL of the process group at random moments, then `--resume auto`"""
    times = 20 if bench.full else 3
    outcome = kill.kill_and_compare(bench.root, bench.folder, times, 0, 100 if bench.full else 60)
    return Found(outcome.kills, len(outcome.broken), int(not outcome.equal),
                 'what came after the newest checkpoint is done again; final weights equal bit for bit')


def signals(bench: Bench) -> Found:
    """SIGINT, SIGTERM, SIGHUP, SIGUSR1 while training"""
    lost = 0
    names = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1')
    for name in names:
        work, before = bench.work_dir(), signal.getsignal(getattr(signal, name))
        signal.signal(getattr(signal, name), signal.SIG_DFL)  # `nohup python benchmarks/faults.py` ignores one
        bench.train(work, 4, action=lambda _, name=name: os.kill(os.getpid(), getattr(signal, name)), **RARELY)
        signal.signal(getattr(signal, name), before)
        lost += newest(work) != 2
    return Found(len(names), lost, 0, 'the iteration is finished and saved, status 75')


def second_training(bench: Bench) -> Found:
    """A second training in the same work dir, plain, `--resume` and `--resume auto`"""
    work = bench.work_dir()
    bench.train(work, 2)
    other = subprocess.Popen([sys.executable, '-c', HOLD, str(work)], stdout=subprocess.PIPE,
                             env=dict(os.environ, PYTHONPATH=str(ROOT)))
    try:
        other.stdout.readline()
        said = [bench.train(work, 3, resume=resume) for resume in (None, 'latest', 'auto')]
    finally:
        other.kill()
        other.wait()
    wrong = sum('another training is using it' not in text for text in said)
    return Found(3, int(newest(work) != 2), wrong, 'refused, with host, process and since when')


def work_dir_goes(bench: Bench) -> Found:
    """The work dir is moved or removed while training"""
    lost = wrong = 0
    for go in (lambda path: path.rename(f'{path}.moved'), shutil.rmtree):
        work = bench.work_dir()
        bench.train(work, 4, action=lambda _, go=go, work=work: go(work), **RARELY)
        lost += newest(work) != 4
        wrong += 'is made anew' not in log_of(work)
    return Found(2, lost, wrong, 'the folder is made anew, everything from there on is in it, and the log says so')


def failures(bench: Bench) -> Found:
    """A bug in a hook, too few file descriptors, a full /dev/shm, no memory, an unknown error"""
    errors = (ValueError('a bug'), OSError(24, 'Too many open files'), MemoryError(), KeyError('x'),
              RuntimeError('unable to write to file </torch_1>: No space left on device (28)'))
    lost = wrong = 0

    def fail(error):
        raise error

    for error in errors:
        work = bench.work_dir()
        said = bench.train(work, 4, action=lambda _, error=error: fail(error), **RARELY)
        lost += newest(work) != 2
        wrong += 'go on with --resume' not in said
    return Found(len(errors), lost, wrong, 'the last finished iteration is saved; one line with the cause')


def failing_writes(bench: Bench) -> Found:
    """A checkpoint that cannot be written: disk full, quota, no permission, I/O error, stale file handle"""
    lost = wrong = 0
    numbers = (28, 122, 13, 5, 116)
    for number in numbers:
        work, write, failed = bench.work_dir(), write_atomic, []

        def fail_once(path, data, number=number, write=write, failed=failed):
            if Path(path).name == 'iter_2.pth' and not failed:
                failed.append(path)
                raise OSError(number, os.strerror(number), str(path))
            write(path, data)

        with mock.patch('facesr.checkpoint.io.write_atomic', fail_once):
            bench.train(work, 3, **{'checkpoint_config.interval': 1})
        lost += newest(work) != 3 or not (work / 'iter_1.pth').is_file()
        wrong += 'iter_2.pth: not saved' not in log_of(work)
    return Found(len(numbers), lost, wrong, 'the log says so, earlier ones stay, training goes on')


def undeletable(bench: Bench) -> Found:
    """An old checkpoint that cannot be deleted"""
    work, unlink = bench.work_dir(), Path.unlink

    def refuse(path, *args, **kwargs):
        if path.name == 'iter_1.pth':
            raise PermissionError(13, 'Permission denied', str(path))
        unlink(path, *args, **kwargs)

    with mock.patch.object(Path, 'unlink', refuse):
        bench.train(work, 3, **{'checkpoint_config.interval': 1, 'checkpoint_config.max_keep_ckpts': 1})
    return Found(1, int(newest(work) != 3), int('cannot be deleted' not in log_of(work)), 'a warning')


def _flips(whole: bytes, times: int, path: Path) -> int:
    """How many flips of a bit change what is read from a file, without a word."""
    path.write_bytes(whole)
    before, wrong, chance = read_checkpoint(path), 0, random.Random(0)
    for _ in range(times):
        bit, data = chance.randrange(8 * len(whole)), bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            now = read_checkpoint(path)
            wrong += flat(now) != flat(before)
    return wrong


def flat(thing):
    """Nested values with tensors as plain ones, for comparison."""
    if torch.is_tensor(thing):
        return thing.tolist()
    if isinstance(thing, dict):
        return {key: flat(value) for key, value in thing.items()}
    return [flat(value) for value in thing] if isinstance(thing, (list, tuple)) else thing


def flipped_checkpoint(bench: Bench) -> Found:
    """One bit flipped in a checkpoint"""
    times, path, net = 1500 if bench.full else 300, bench.folder / 'flipped.pth', torch.nn.Conv2d(8, 8, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 8, 3, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(path, net, dict(generator=optimizer), dict(iter=3))
    return Found(times, 0, _flips(path.read_bytes(), times, path), 'refused, or the bit is one of no meaning')


def flipped_export(bench: Bench) -> Found:
    """One bit flipped in an exported .safetensors"""
    times, net = 1500 if bench.full else 300, torch.nn.Module()
    net.generator = torch.nn.Conv2d(8, 8, 3)
    whole = encode_safetensors(net, dict(config='x', scale='4'))
    return Found(times, 0, _flips(whole, times, bench.folder / 'flipped.safetensors'), 'refused')


def flipped_cache(bench: Bench) -> Found:
    """One bit flipped in a cached image"""
    times, wrong, chance = 100 if bench.full else 20, 0, random.Random(0)
    path, place = str(next((bench.root / 'val/GT').iterdir())), bench.folder / 'cache'
    cached, pixels = cache.ImageCache(place), cv2.imread(path)
    cached.fill([path], cv2.imread, lambda _: None)
    whole = (place / cache.DATA).read_bytes()
    start = whole.find(pixels.tobytes())
    for _ in range(times):
        cache._close_all()
        data = bytearray(whole)
        data[start + chance.randrange(pixels.nbytes)] ^= 1 << chance.randrange(8)
        (place / cache.DATA).write_bytes(data)
        wrong += cached.get(path) is not None
    cache._close_all()
    return Found(times, 0, wrong, 'the image is read from its file instead')


def damaged_newest(bench: Bench) -> Found:
    """The newest checkpoint is cut off, empty, zeros or has a flipped bit; `--resume auto`"""
    lost = wrong = 0
    kinds = (lambda data: data[:len(data) // 2], lambda _: b'', lambda data: bytes(len(data)), _with_a_flip)
    for damage in kinds:
        work = bench.work_dir()
        bench.train(work, 3, **{'checkpoint_config.interval': 1})
        damaged = damage((work / 'iter_3.pth').read_bytes())
        (work / 'iter_3.pth').write_bytes(damaged)
        bench.train(work, 3, resume='auto')
        lost += newest(work) != 3 or (work / 'iter_3.pth.damaged').read_bytes() != damaged
        wrong += 'it is called iter_3.pth.damaged' not in log_of(work)
    return Found(len(kinds), lost, wrong, 'the newest whole one is taken, the damaged one put aside, and told')


def _with_a_flip(data: bytes) -> bytes:
    weight = torch.load(io.BytesIO(data), weights_only=True)['state_dict']['generator.conv_last.weight']
    flipped = bytearray(data)
    flipped[data.find(weight.numpy().tobytes())] ^= 1
    return bytes(flipped)


def stale_latest(bench: Bench) -> Found:
    """`latest.pth` left behind by a kill, or leading to a file that is gone"""
    work, wrong = bench.work_dir(), 0
    bench.train(work, 2, **{'checkpoint_config.interval': 1})
    for target in ('iter_1.pth', 'iter_0.pth'):
        (work / LATEST).unlink()
        (work / LATEST).symlink_to(target)
        wrong += newest(work) != 2
        bench.train(work, 2, resume='auto')
        wrong += (work / LATEST).resolve().name != 'iter_2.pth'
    return Found(2, 0, wrong, 'whoever reads it takes the newest; a resume mends it')


def other_settings(bench: Bench) -> Found:
    """A resume with another patch, batch, loss, rate, border, with other training or validation images, or fewer"""
    work = bench.work_dir()
    bench.train(work, 2, validate=True)

    def negative(folder):
        path = sorted((folder).iterdir())[0]
        cv2.imwrite(str(path), 255 - cv2.imread(str(path)))

    def fewer(root):
        sorted((root / 'train/GT').iterdir())[1].unlink()
        write_annotation(scan_folder(root / 'train/GT'), root / 'train.txt', force=True)

    cases = [({'gt_patch_size': 64}, None), ({'data.train_dataloader.samples_per_gpu': 2}, None),
             ({'model.pixel_loss.loss_weight': 0.5}, None), ({'optimizers.generator.lr': 1e-5}, None),
             ({'test_cfg.crop_border': 4}, None), ({}, lambda root: negative(root / 'train/GT')),
             ({}, lambda root: negative(root / 'val/GT')), ({}, fewer)]
    wrong = 0
    for number, (options, change) in enumerate(cases):
        again, root = bench.work_dir(), bench.folder / f'other{number}'
        shutil.copytree(work, again)
        shutil.copytree(bench.root, root)
        if change:
            change(root)
        bench.train(again, 3, root, 'auto', validate=True, **options)
        wrong += log_of(again).count('other than before iteration 2') == 0
    return Found(len(cases), 0, wrong, 'told line by line in log and config_history; a best score measured otherwise '
                 'starts anew')


def clock_set_back(bench: Bench) -> Found:
    """The clock set back between a run and its resumption"""
    work = bench.work_dir()
    times = iter(('20260102_000000', '20260101_000000'))
    with mock.patch('mmcv.runner.base_runner.get_time_str', lambda: next(times)):
        bench.train(work, 2)
        bench.train(work, 4, resume='auto')
    return Found(1, 0, int(read_runs([work])[0].resumes != [3]), 'logs are joined in the order they were written')


def made_to_harm(bench: Bench) -> Found:
    """Checkpoints with values that training never writes: wrong types, NaN, sparse, tensors larger than the file"""
    weight = torch.ones(2)
    good = dict(w=weight)
    contents = [
        dict(state_dict=good, meta='x'), dict(state_dict=good, meta=dict(iter=-1)),
        dict(state_dict=good, meta=dict(iter=1.5)), dict(state_dict=good, meta=dict(iter='3')),
        dict(state_dict=good, meta=dict(exp_name=[1])), dict(state_dict=good, meta=dict(hook_msgs=[1])),
        dict(state_dict=good, meta=dict(hook_msgs=dict(best_score='x'))), dict(state_dict=good, optimizer=[1]),
        dict(state_dict=good, update=3), dict(state_dict=good, update=dict(scaler=None, skipped_in_a_row='x')),
        dict(state_dict=good, samples=-5), dict(state_dict=good, ranks=dict(a=1)),
        dict(state_dict=dict(w=weight * torch.nan)), dict(state_dict=dict(w=weight.to_sparse())),
        dict(state_dict=dict(w=weight[:1].expand(2**40))), dict(state_dict=dict(w=weight.to(torch.complex64))),
        dict(state_dict=dict(w=3)), dict(state_dict=3), [1]
    ]
    path, wrong = bench.folder / 'crafted.pth', 0
    for content in contents:
        torch.save(content, path)
        try:
            read_checkpoint(path)
            wrong += 1
        except UserError as error:
            wrong += '\n' in str(error)
    return Found(len(contents), 0, wrong, 'refused in one line, before anything is written')


def code_in_configs(bench: Bench) -> Found:
    """YAML with tags, and a work dir whose recorded config has code in it"""
    wrong, pwned = 0, bench.folder / 'pwned'
    for text in (f'a: !!python/object/apply:os.mkdir ["{pwned}"]', f'!!python/object/new:os.mkdir ["{pwned}"]'):
        path = bench.folder / 'x.yml'
        path.write_text(text)
        with contextlib.suppress(UserError):
            load_config(path)
            wrong += 1
    work = bench.work_dir()
    bench.train(work, 1)
    for record in (True, False):
        (work / 'run.py').write_text(f'import os\nos.mkdir({str(pwned)!r})\n')
        if not record:
            (work / 'run.config.json').unlink()
        with contextlib.suppress(UserError):
            find_sources(work)
    return Found(4, 0, wrong + pwned.exists(), 'read as plain values or refused; nothing is run')


def names(bench: Bench) -> Found:
    """Names with escape codes, a new line and a forged "error:", a direction mark, bytes that are no text"""
    texts = ('a\x1b[2Jb', 'a\nerror: forged', 'a\u202eb', 'a\udcffb')
    wrong = sum(not plain(text).isprintable() for text in texts)
    out = io.StringIO()
    say(*texts, file=out)
    return Found(len(texts), 0, wrong + (out.getvalue().count('\n') != len(texts)), 'shown as \\x1b and such')


FAULTS = (kills, signals, second_training, work_dir_goes, failures, failing_writes, undeletable, flipped_checkpoint,
          flipped_export, flipped_cache, damaged_newest, stale_latest, other_settings, clock_set_back, made_to_harm,
          code_in_configs, names)


def cost(folder: Path) -> str:
    """What verifying a checkpoint takes, in words."""
    path, net = folder / 'large.pth', torch.nn.Conv2d(1000, 667, 3)
    save_checkpoint(path, net)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        check_archive(path)
        seconds.append(time.perf_counter() - start)
    size = path.stat().st_size / 1e6
    return (f'Verifying the checksums of a checkpoint of {size:.0f} MB takes {1000 * min(seconds):.0f} ms on one core '
            '(best of five; the file is in the memory), each time it is read.')


def report(found: dict, seconds: float, command: str, costs: str) -> str:
    """Everything as Markdown, the two figures that count in front."""
    rows = [[what, str(one.tried), str(one.lost), str(one.wrong), one.then] for what, one in found.items()]
    tried, lost, wrong = (sum(getattr(one, key) for one in found.values()) for key in ('tried', 'lost', 'wrong'))
    return '\n'.join([
        '# Faults', '', f'    {command}', '',
        f'**Things lost: {lost}. Things silently wrong: {wrong}.** {tried:,} attempts of {len(found)} kinds '
        f'({seconds / 60:.0f} minutes).', '',
        'Lost is a finished iteration that `--resume` does not have (after a SIGKILL: one before the newest '
        'checkpoint), or a file. Silently wrong is another result, or an input taken for what it is not, without a '
        'word. Each row is held by tests too.', '',
        markdown_table(['what was tried', 'times', 'lost', 'silently wrong', 'what happens'], rows), '',
        costs, '', '## What can still be lost', '',
        '* A SIGKILL, a power cut or a crash of the machine costs what came after the newest checkpoint '
        '(`checkpoint_config.interval`, 1,000 iterations by default).',
        '* A work dir that is removed takes its earlier checkpoints and logs along; what is made anew begins with the '
        'next checkpoint.',
        '* An error in the middle of an optimizer step, or on one of several processes, goes back to the newest '
        'checkpoint.',
        '* Two trainings on a network drive that cannot lock do not notice each other; the log says that it cannot.',
        '* A changed training image whose size and last 4 KiB are as before is taken for the same one.',
        '* Checkpoints in torch\'s old format (before 1.6), ONNX files in other programs, and .safetensors of other '
        'programs have no checksum that is looked at.',
        '* A Python config is code and is run: give none that you do not trust. What a work dir records is not run.',
        ''])


def main():
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--full', action='store_true', help='more kills and flips')
    parser.add_argument('--only', nargs='+', choices=[fault.__name__ for fault in FAULTS], help='some of the faults')
    parser.add_argument('--out', metavar='FILE', help='write the table there, as Markdown')
    parser.add_argument('--json', metavar='FILE', help='write the numbers there')
    args = parser.parse_args()
    for path in filter(Path.exists, map(Path, filter(None, (args.out, args.json)))):
        text = path.read_text(errors='replace')
        if not any(fault.__doc__ in text for fault in FAULTS):
            parser.error(f'{path}: is there and was not written by this script; give another name')
    start, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        quiet = io.StringIO()
        with contextlib.redirect_stderr(quiet):
            bench = Bench(Path(folder), args.full)
        for fault in FAULTS:
            if args.only and fault.__name__ not in args.only:
                continue
            with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
                one = fault(bench)
            found[fault.__doc__] = one
            print(f'{fault.__name__}: {one.tried} tried, {one.lost} lost, {one.wrong} silently wrong', flush=True)
        costs = cost(Path(folder))
    command = ' '.join(['python benchmarks/faults.py', *(['--full'] if args.full else []),
                        *(['--only', *args.only] if args.only else [])])
    text = report(found, time.monotonic() - start, command, costs)
    print(f'\n{text}')
    if args.out:
        write_atomic(args.out, text)
    if args.json:
        write_atomic(args.json, json.dumps({what: one._asdict() for what, one in found.items()}, indent=2))
    sys.exit(any(one.lost or one.wrong for one in found.values()))


if __name__ == '__main__':
    main()
