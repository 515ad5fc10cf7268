from __future__ import annotations

import threading
import time

from persona_interp.models.turns import Turns


def waiting(turns: Turns, n: int) -> None:
    end = time.monotonic() + 5
    while len(turns._waiting) < n and time.monotonic() < end:
        time.sleep(0.001)
    assert len(turns._waiting) == n


def test_turns_come_in_the_order_asked_for() -> None:
    turns = Turns()
    came: list[int] = []

    def take(number: int) -> None:
        with turns:
            came.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            waiting(turns, number + 1)
    for thread in threads:
        thread.join(timeout=5)
    assert came == list(range(8))


def test_a_holder_that_asks_again_at_once_comes_after_those_who_waited() -> None:
    turns = Turns()
    came: list[str] = []

    def short() -> None:
        with turns:
            came.append("short")

    thread = threading.Thread(target=short)
    with turns:
        thread.start()
        waiting(turns, 1)
    with turns:
        came.append("long")
    thread.join(timeout=5)
    assert came == ["short", "long"]


def test_the_holder_may_enter_again() -> None:
    turns = Turns()
    inside: list[str] = []
    with turns, turns:
        inside.append("twice")
        other = threading.Thread(target=lambda: inside.append("other") if turns.__enter__() is None else None)
        other.start()
        waiting(turns, 1)
    other.join(timeout=5)
    assert inside == ["twice", "other"]


def test_an_error_inside_gives_the_turn_on() -> None:
    turns = Turns()
    try:
        with turns:
            raise KeyError
    except KeyError:
        pass
    done = threading.Event()

    def take() -> None:
        with turns:
            done.set()

    threading.Thread(target=take).start()
    assert done.wait(timeout=5)
