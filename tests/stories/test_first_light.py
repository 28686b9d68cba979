"""A prompt goes in, tokens come out: the whole product as child processes, seen by a client that is not ours."""

import time
import zlib
from typing import Any

import grpc
import pytest

from tests.stories.processes import client, cluster, info, seconds_until, trailers


def status_of(call: Any) -> grpc.StatusCode:
    """Read a call to its end; its status."""
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass
    code: grpc.StatusCode = call.code()
    return code


def test_ten_lines_of_grpcio_get_every_token_once() -> None:
    """Tokens 0 to n-1 in order, the last one final, from two replicas side by side, with an account in the trailers."""
    with cluster(2, "--token-delay-ms", "1", "--max-capacity", "8") as (gateway, _), client(gateway.address) as infer:
        calls = [infer(prompt=f"tell me about {number}", max_tokens=20) for number in range(16)]
        replicas = set()
        for call in calls:
            tokens = list(call)
            assert [token.index for token in tokens] == list(range(20))
            assert [token.is_final for token in tokens] == [False] * 19 + [True]
            digest = zlib.crc32("".join(token.text for token in tokens).encode())
            account = trailers(call)
            assert (account["gw-delivered"], account["gw-digest"]) == ("20", f"{digest:08x}")
            replicas |= {token.replica_id for token in tokens}
        assert replicas == {"r0", "r1"}


def test_a_cancel_during_prefill_frees_the_replica_at_once() -> None:
    """No token has been sent yet, and the replica is told all the same: two seconds of prefill are not waited for."""
    with cluster(1, "--prefill-ms", "2000") as (gateway, [replica]), client(gateway.address) as infer:
        call = infer(prompt="never mind", max_tokens=5)
        seconds_until(lambda: info(replica).active_requests == 1, patience=10)
        call.cancel()
        assert seconds_until(lambda: info(replica).active_requests == 0, patience=10) < 1.0
        assert info(replica).requests_cancelled_total == 1


def test_a_deadline_is_kept_to_the_tenth_of_a_second_and_stops_the_replica() -> None:
    """DEADLINE_EXCEEDED when the client said, not when the tokens are done."""
    with cluster(1, "--token-delay-ms", "100") as (gateway, [replica]), client(gateway.address) as infer:
        start = time.monotonic()
        assert status_of(infer(prompt="hurry", max_tokens=100, timeout=0.5)) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.5 <= time.monotonic() - start < 0.7
        assert seconds_until(lambda: info(replica).active_requests == 0, patience=10) < 1.0


def test_a_kill_of_the_only_replica_is_reported_with_the_count_of_what_was_delivered() -> None:
    """Kill -9 mid-stream, and nobody to go on: UNAVAILABLE after the second of grace, and exactly how far it got."""
    with cluster(1, "--token-delay-ms", "20") as (gateway, [replica]), client(gateway.address) as infer:
        call = infer(prompt="to be continued", max_tokens=1000)
        got = [next(call) for _ in range(10)]
        replica.popen.kill()
        killed = time.monotonic()
        with pytest.raises(grpc.RpcError):
            got.extend(call)
        assert 1.0 <= time.monotonic() - killed < 1.3
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert trailers(call)["gw-delivered"] == str(len(got))
        assert trailers(call)["gw-reason"] == "no_replica"


def test_a_kill_of_one_of_three_is_noticed_by_its_replica_id_only() -> None:
    """Kill -9 at token ten of fifty: fifty tokens, two replicas, and no gap as long as five tokens."""
    flags = ("--token-delay-ms", "20")
    with cluster(3, *flags) as (gateway, replicas), client(gateway.address) as infer:
        call = infer(prompt="to be continued", max_tokens=50)
        got = [next(call) for _ in range(10)]
        replicas[int(got[0].replica_id[1:])].popen.kill()
        gaps, before = [], time.monotonic()
        for token in call:
            got.append(token)
            gaps.append(time.monotonic() - before)
            before = time.monotonic()
        assert [token.index for token in got] == list(range(50))
        assert len({token.replica_id for token in got}) == 2
        assert (trailers(call)["gw-delivered"], trailers(call)["gw-attempts"]) == ("50", "2")
        assert max(gaps) < 0.1


def test_sigterm_ends_each_process_with_status_zero() -> None:
    """Nothing is running: a drain is immediate."""
    with cluster(1) as (gateway, [replica]):
        assert gateway.stop() == 0
        assert replica.stop() == 0
