"""Restore the embedded sample with the weights in the box, then run the main job on it: two minutes on two cores."""
import subprocess
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from facesr.utils.cli import ArgumentParser
from facesr.utils.errors import UserError, report_user_errors

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'configs/sample/naf_unet_sample.py'
WORK_DIR = 'work_dirs/naf_unet_sample'
RESTORED = 'work_dirs/sample_restored'
WEIGHTS = 'naf_unet_ffhq'  # of those in the box, those for LQ like the sample's


def run_demo() -> dict:
    """Sample, its faces restored; annotation, check, training, validation, hand-in zip, pictures, report.

    It is quick when done before.

    Returns:
        dict[str, str]: What was made, by what it is, as paths relative to the repository.

    Raises:
        UserError: One of the commands failed.
    """
    _tool('make_sample.py')
    made = {
        'restored by the weights in the box': f'{RESTORED}/hq',
        'LQ | bicubic | HQ | GT of those': f'{RESTORED}/comparison.png',
    }
    hq, picture = made.values()
    _tool('restore.py', 'data/sample/test/LQ', '--weights', WEIGHTS, '--out-dir', hq)
    _tool('show_results.py', '--weights', WEIGHTS, '--data-root', 'data/sample', '--out', picture)
    _tool('make_annotation.py', 'data/sample/train/GT', 'annotations/sample_train.txt')
    _tool('check_data.py', CONFIG)
    from facesr.checkpoint.naming import find_latest
    started = find_latest(ROOT / WORK_DIR) is not None
    _tool('train.py', CONFIG, *(['--resume'] if started else []))
    best = _best_checkpoint()
    made |= {
        'best checkpoint': best,
        'validation metrics': f'{WORK_DIR}/val_metrics.json',
        'HQ test images': f'{WORK_DIR}/test_hq',
        'hand-in zip': f'{WORK_DIR}/submission.zip',
        'LQ samples, as drawn': f'{WORK_DIR}/degradation.png',
        'loss and PSNR curves': f'{WORK_DIR}/curves',
        'LQ | bicubic | HQ | GT': f'{WORK_DIR}/comparison.png',
        'all of it in a browser': f'{WORK_DIR}/report.html',
    }
    _tool('test.py', CONFIG, best, '--out', made['validation metrics'])
    _tool('test.py', CONFIG, best, '--split', 'test', '--out-dir', made['HQ test images'], '--zip',
          made['hand-in zip'])
    _tool('show_degradation.py', CONFIG, '--out', made['LQ samples, as drawn'])
    _tool('plot_curves.py', WORK_DIR, '--out-dir', made['loss and PSNR curves'])
    _tool('show_results.py', CONFIG, best, '--out', made['LQ | bicubic | HQ | GT'])
    _tool('report.py', WORK_DIR)
    return made


def _tool(name: str, *arguments: str) -> None:
    command = ['python', f'tools/{name}', *arguments]
    print(f'\n$ {" ".join(command)}', flush=True)
    status = subprocess.run([sys.executable, *command[1:]], cwd=ROOT).returncode
    if status:
        raise UserError(f'tools/{name} ended with status {status}; its message is above')


def _best_checkpoint() -> str:
    """Path of the best checkpoint, by the newest checkpoint's own record."""
    from facesr.checkpoint.io import read_checkpoint
    from facesr.checkpoint.naming import find_latest
    messages = read_checkpoint(find_latest(ROOT / WORK_DIR))['meta'].get('hook_msgs', {})
    best = Path(WORK_DIR) / Path(messages.get('best_ckpt', '')).name
    if not (ROOT / best).is_file():
        raise UserError(f'{WORK_DIR}: no best checkpoint; remove the folder to train again')
    return str(best)


@report_user_errors
def main():
    ArgumentParser(description=__doc__).parse_args()
    made = run_demo()
    print('\nDone. What you have now:')
    for what, path in made.items():
        print(f'  {what:<36}{path}')


if __name__ == '__main__':
    main()
