import gc
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.timing import scopes
from deblurkit.timing.scopes import Recorder, Scope


def counting_recorder():
    """A recorder whose marks are 0, 1, 2 …"""
    return Recorder(itertools.count().__next__)


def noted(recorder):
    return [scope for _, own in recorder.take() for scope in own]


def test_a_scope_notes_its_name_and_both_marks():
    recorder = counting_recorder()
    with Scope(recorder, "data"):
        pass
    assert noted(recorder) == [("data", 0, 1)]
    assert noted(recorder) == []


def test_one_object_serves_a_scope_inside_itself():
    recorder = counting_recorder()
    scope = Scope(recorder, "a")
    with scope, scope:
        pass
    assert noted(recorder) == [("a/a", 1, 2), ("a", 0, 3)]


TREES = st.recursive(
    st.just([]), lambda inner: st.lists(st.tuples(st.sampled_from("ab前"), inner), max_size=3)
)


@given(TREES)
def test_any_nesting_of_scopes_gives_the_paths_of_a_plain_walk(tree):
    recorder = counting_recorder()
    made = {name: Scope(recorder, name) for name in "ab前"}

    def enter(branches):
        for name, inside in branches:
            with made[name]:
                enter(inside)

    def paths(branches, above=""):
        for name, inside in branches:
            yield from paths(inside, f"{above}{name}/")
            yield above + name

    enter(tree)
    assert [name for name, _, _ in noted(recorder)] == list(paths(tree))


def test_a_scope_left_out_of_order_closes_what_is_inside_it_and_the_next_ones_are_right():
    recorder = counting_recorder()
    outer, inner = Scope(recorder, "outer"), Scope(recorder, "inner")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)  # was closed with the outer one
    with inner:
        pass
    assert [name for name, _, _ in noted(recorder)] == ["outer", "inner"]
    assert recorder.lost == 2


def run_in_threads(work, number):
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_eight_threads_lose_nothing_while_their_scopes_are_taken():
    recorder = counting_recorder()
    scope = Scope(recorder, "x")
    taken, done = [], threading.Event()

    def work():
        for _ in range(2000):
            with scope:
                pass

    def take():
        while not done.is_set():
            taken.extend(noted(recorder))

    taker = threading.Thread(target=take)
    taker.start()
    run_in_threads(work, 8)
    done.set()
    taker.join()
    taken += noted(recorder)
    assert len(taken) == 8 * 2000
    marks = {mark for _, start, end in taken for mark in (start, end)}
    assert marks == set(range(2 * 8 * 2000))


def test_threads_that_end_are_forgotten_once_their_scopes_are_taken():
    recorder = counting_recorder()
    scope = Scope(recorder, "x")

    def work():
        with scope:
            pass

    run_in_threads(work, 5)
    gc.collect()
    before = recorder.num_threads
    assert len(noted(recorder)) == 5
    assert recorder.num_threads == before - 5


def test_a_thread_that_notes_too_much_asks_for_it_to_be_taken(monkeypatch):
    monkeypatch.setattr(scopes, "FULL", 10)
    sizes = []
    recorder = Recorder(itertools.count().__next__, lambda: sizes.append(len(noted(recorder))))
    scope = Scope(recorder, "x")
    for _ in range(25):
        with scope:
            pass
    assert sizes == [11, 11]


@pytest.mark.parametrize(("raw", "clean"), [(" a / b ", "a/b"), ("", "unnamed"), ("a\nb", "a b")])
def test_names_are_cleaned_once_when_the_scope_is_made(raw, clean):
    recorder = counting_recorder()
    with Scope(recorder, raw):
        pass
    assert noted(recorder)[0][0] == clean
