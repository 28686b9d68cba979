"""The leak check itself: it must find what it is there to find, and name it."""

import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the check reads /proc")

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")

# What is left lives a little longer than the shortened grace, and not as long as the true one: this very test is
# checked too, and adopts it.
LEAKS = """
import socket, subprocess, sys, threading, time
kept = []

def test_socket():
    kept.append(socket.socket())

def test_child():
    kept.append(subprocess.Popen(["sleep", "0.6"]))

def test_grandchild():
    subprocess.run(["sh", "-c", "sleep 0.7 & exit"])

def test_thread():
    threading.Thread(target=time.sleep, args=(0.8,), name="straggler").start()

def test_nothing():
    subprocess.run(["true"])
    with socket.socket():
        pass
"""


def test_a_socket_a_process_a_grandchild_and_a_thread_left_behind_are_named(pytester: pytest.Pytester) -> None:
    """Each of them fails the test that left it, and no other."""
    pytester.makeconftest(f"{CONFTEST}\nGRACE = 0.1\n")
    pytester.makepyfile(LEAKS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=5, errors=4)
    result.stdout.fnmatch_lines(
        [
            "E  *AssertionError: the test left behind: socket:[[]*[]]",
            "E  *AssertionError: the test left behind: process *: sleep 0.6",
            "E  *AssertionError: the test left behind: process *: sleep 0.7",
            "E  *AssertionError: the test left behind: thread *straggler*",
        ]
    )
