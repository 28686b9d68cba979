"""Rollouts of real processes under a hundred of grpcio's streams: no call fails, and the receipt says what they saw.

The same in virtual time, and what may go wrong meanwhile, is in ``tests/stories/test_rolling_update.py``.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import grpc
import pytest

from inferencegw.children import parse_ready_line
from inferencegw.testing import Request, oracle
from inferencegw.v1.gateway_pb2 import InferRequest, InferResponse
from tests.gateway.support import INFER

STREAMS = 100
TOKENS = 100
TRIO_GW = [sys.executable, "-m", "inferencegw"]


@contextmanager
def a_cluster() -> Iterator[dict[str, str]]:
    """Three replicas, each with room for all streams, and two gateways; where everybody is."""
    flags = ["--replicas", "3", "--gateways", "2", "--port", "0", "--slow-start", "1", "--token-delay-ms", "20"]
    command = [*TRIO_GW, "cluster", "up", *flags, "--max-capacity", str(STREAMS), "--log-level", "critical"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield parse_ready_line(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(60)


@attrs.frozen
class Stream:
    """One call that has ended well."""

    prompt: str
    tokens: list[InferResponse]

    @property
    def is_exact(self) -> bool:
        """Whether it is the unbroken stream, token for token."""
        texts = oracle(Request(prompt=self.prompt, max_tokens=TOKENS))
        return [(token.index, token.text) for token in self.tokens] == list(enumerate(texts))

    @property
    def was_handed_over(self) -> bool:
        """Whether more than one replica has served it."""
        return len({token.replica_id for token in self.tokens}) > 1


class Clients:
    """Streams, each in a thread, half of them at each gateway, one call after the other until they are told to stop."""

    def __init__(self, gateways: list[str]) -> None:
        self.enough = False
        self.streams: list[Stream] = []  # threads append to it, which is all that needs no lock
        self.errors: list[str] = []
        ask = [gateways[number % len(gateways)] for number in range(STREAMS)]
        self._threads = [threading.Thread(target=self._run, args=one) for one in enumerate(ask)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.enough = True
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, number: int, gateway: str) -> None:
        with grpc.insecure_channel(gateway) as channel:
            infer = channel.unary_stream(
                INFER.path,
                request_serializer=InferRequest.SerializeToString,
                response_deserializer=InferResponse.FromString,
            )
            while not self.enough:
                prompt = f"client {number} for the {len(self.streams)}th time"
                try:
                    tokens = list(infer(InferRequest(prompt=prompt, max_tokens=TOKENS), timeout=120))
                except grpc.RpcError as error:
                    self.errors.append(str(error))
                else:
                    self.streams.append(Stream(prompt, tokens))


@pytest.mark.parametrize("number", range(20))
def test_a_rollout_under_a_hundred_streams_drops_nothing(number: int) -> None:
    """Every stream exact; requests and handovers as many as clients have counted, at both gateways together."""
    with a_cluster() as at:
        order = ["rollout", "--version", "v2", "--manager", at["manager"], "--gateway", at["g1"], "--json"]
        clients = Clients([at["g1"], at["g2"]])
        steps: list[dict[str, Any]] = []
        with subprocess.Popen([*TRIO_GW, *order, "--drain-timeout", "1"], stdout=subprocess.PIPE, text=True) as rollout:
            assert rollout.stdout is not None
            try:
                for line in rollout.stdout:
                    steps.append(json.loads(line))
                    if len(steps) == 1:  # its counts have been taken
                        clients.start()
                    if (steps[-1]["phase"], steps[-1]["replica_id"]) == ("warm_up", "r3"):
                        clients.enough = True
            finally:
                clients.join()
    receipt = steps[-1]["receipt"]
    assert (steps[-1]["phase"], rollout.returncode, clients.errors) == ("finished", 0, [])
    assert [stream for stream in clients.streams if not stream.is_exact] == []
    assert (receipt["requests"], receipt["dropped"]) == (len(clients.streams), 0)
    handed_over = sum(stream.was_handed_over for stream in clients.streams)
    assert (receipt["handed_over"], receipt["gateways"], receipt["unasked"]) == (handed_over, ["g1", "g2"], [])
