"""Real processes for stories: ``trio-gw`` as a user starts it, and a grpcio client that knows only the messages."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from inferencegw.children import parse_ready_line
from inferencegw.v1 import admin_pb2, gateway_pb2, replica_pb2


class Process:
    """One ``trio-gw`` server. ``address`` is what its ready line said; ``log`` is a file for all that it has to say."""

    def __init__(self, *arguments: str, log: Path | None = None) -> None:
        command = [sys.executable, "-m", "inferencegw", *arguments, "--log-level", "debug" if log else "warning"]
        with contextlib.ExitStack() as files:
            stderr = files.enter_context(log.open("wb")) if log else None
            self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.popen.stdout is not None
        ready = self.popen.stdout.readline()
        addresses = parse_ready_line(ready)
        assert addresses, f"{command} said {ready!r}"
        self.address = addresses["grpc"]

    @property
    def resident_mib(self) -> float:
        """Its resident memory now."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    @property
    def descriptors(self) -> int:
        """How many files and sockets it holds now."""
        return len(list(Path(f"/proc/{self.popen.pid}/fd").iterdir()))

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.popen.terminate()
        return self.popen.wait(timeout=20)


@contextmanager
def cluster(replicas: int, *replica_flags: str) -> Iterator[tuple[Process, list[Process]]]:
    """A gateway and its replicas, ended whatever happens; both have connected when this returns."""
    with cluster_of({f"r{n}": replica_flags for n in range(replicas)}) as started:
        yield started


@contextmanager
def cluster_of(
    replicas: Mapping[str, Sequence[str]], logs: Path | None = None
) -> Iterator[tuple[Process, list[Process]]]:
    """The same with replicas of these names and flags; each writes ``NAME.log`` in ``logs``, if there is to be any."""
    started: list[Process] = []
    try:
        for name, flags in replicas.items():
            log = logs / f"{name}.log" if logs else None
            started.append(Process("replica", "--port", "0", "--id", name, *flags, log=log))
        seeds = [flag for replica in started for flag in ("--replica", replica.address)]
        gateway = Process("run", "--port", "0", *seeds)
        started.append(gateway)
        _until_all_are_connected(gateway, len(replicas))
        yield gateway, started[:-1]
    finally:
        for process in started:
            process.popen.kill()
            process.popen.wait()
            assert process.popen.stdout is not None
            process.popen.stdout.close()


def _until_all_are_connected(gateway: Process, replicas: int) -> None:
    """Ask the gateway until it has a connection to each of them; no token is generated for that."""
    with grpc.insecure_channel(gateway.address) as channel:
        ask = channel.unary_unary(
            "/inferencegw.v1.GatewayAdmin/GetStatus",
            request_serializer=admin_pb2.GetStatusRequest.SerializeToString,
            response_deserializer=admin_pb2.GetStatusResponse.FromString,
        )

        def connected() -> int:
            return sum(replica.connected for replica in ask(admin_pb2.GetStatusRequest()).status.replicas)

        seconds_until(lambda: connected() == replicas, patience=20)


@contextmanager
def client(address: str) -> Iterator[Callable[..., Any]]:
    """``Infer`` as a plain grpcio client calls it."""
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_stream(
            "/inferencegw.v1.InferenceGateway/Infer",
            request_serializer=gateway_pb2.InferRequest.SerializeToString,
            response_deserializer=gateway_pb2.InferResponse.FromString,
        )
        yield lambda timeout=None, **fields: infer(gateway_pb2.InferRequest(**fields), timeout=timeout)


def info(replica: Process) -> replica_pb2.GetInfoResponse:
    """What the replica says of itself."""
    with grpc.insecure_channel(replica.address) as channel:
        answer: replica_pb2.GetInfoResponse = channel.unary_unary(
            "/inferencegw.v1.LLMReplica/GetInfo",
            request_serializer=replica_pb2.GetInfoRequest.SerializeToString,
            response_deserializer=replica_pb2.GetInfoResponse.FromString,
        )(replica_pb2.GetInfoRequest())
        return answer


def seconds_until(predicate: Callable[[], bool], *, patience: float) -> float:
    """How long it took until ``predicate`` held; asked again and again, for at most ``patience`` seconds."""
    start = time.monotonic()
    while not predicate():
        assert time.monotonic() - start < patience, "it never happened"
    return time.monotonic() - start


def trailers(call: Any) -> dict[str, str]:
    """A call's trailing metadata."""
    return dict(call.trailing_metadata())
