import threading
import time

import pytest
import torch

from facesr.utils.threads import Background, one_thread


def test_results_come_in_order_and_few_wait():
    results, running, most = [], [], []

    def work(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0.02 if number % 3 == 0 else 0)
        running.remove(number)
        return number

    with Background(2) as background:
        for number in range(12):
            background.submit(work, number, then=results.append)
            assert number - len(results) <= 4
    assert results == list(range(12)) and max(most) <= 2


def test_what_work_raises_comes_out_and_the_rest_is_dropped():
    done, go = [], threading.Event()

    def work(number):
        go.wait(5)
        if number == 0:
            raise OSError(28, 'No space left on device')
        done.append(number)

    with pytest.raises(OSError, match='No space left'), Background(1) as background:
        for number in range(50):
            background.submit(work, number)
            go.set()
    assert len(done) <= 1  # of the two that may wait


@pytest.mark.parametrize('in_thread', [False, True])
def test_one_thread_is_one_and_only_while_it_lasts(in_thread):
    threads = []

    @one_thread()
    def inside():
        torch.rand(2**20).sum()  # where torch would set its own number
        return torch.get_num_threads()

    def work():
        threads.append(inside())
        with one_thread():
            threads.append(torch.get_num_threads())

    before = torch.get_num_threads()
    if in_thread:
        with Background() as background:
            background.submit(work)
    else:
        work()
    assert threads == [1, 1] and torch.get_num_threads() == before
