"""The fault table: what of it needs no training is tried here; unit/engine/test_going_on.py has tests of the rest."""
import faults


def test_nothing_lost_nothing_silently_wrong(run_command, tmp_path):
    out = tmp_path / 'faults.md'
    done = run_command(['python', 'benchmarks/faults.py', '--out', out, '--only', 'flipped_checkpoint',
                        'flipped_export', 'flipped_cache', 'made_to_harm', 'names', 'failures', 'failing_writes'])
    assert done.returncode == 0, done.stdout + done.stderr
    text = out.read_text()
    assert '**Things lost: 0. Things silently wrong: 0.** 653 attempts of 7 kinds' in text
    assert '--only flipped_checkpoint flipped_export' in text
    again = run_command(['python', 'benchmarks/faults.py', '--out', 'README.md', '--only', 'names'])
    assert again.returncode == 2 and 'README.md: is there and was not written by this script' in again.stderr
    assert '## What can still be lost' in text and text in done.stdout


def test_what_is_found_is_counted():
    found = {'a': faults.Found(3, 1, 0, 'x'), 'b': faults.Found(2, 0, 2, 'y')}
    text = faults.report(found, 61, 'command', 'It costs little.')
    assert '**Things lost: 1. Things silently wrong: 2.** 5 attempts of 2 kinds (1 minutes)' in text
    assert 'It costs little.' in text
    assert '| a | 3 | 1 | 0 | x |' in text
