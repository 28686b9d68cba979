"""A thousand streams of grpcio's through a gateway and two replicas as child processes."""

import pytest

from tests.stories.processes import client, cluster, info, seconds_until


@pytest.mark.brief
def test_a_thousand_streams_at_once_are_all_exact_and_leave_nothing_behind() -> None:
    """1,000 x 50 tokens, three times: every stream exact, no slot, socket or memory kept.

    Python's allocator reaches its plateau after some rounds, 59 to 70 MiB on 3.13; keeping even a closed stream's
    header list would add 8 MiB in each.
    """
    flags = ("--token-delay-ms", "10", "--max-capacity", "600")
    with cluster(2, *flags) as (gateway, replicas):
        descriptors, after_round = gateway.descriptors, []
        for _ in range(3):
            with client(gateway.address) as infer:
                calls = [infer(prompt=f"prompt {number}", max_tokens=50) for number in range(1000)]
                for call in calls:
                    assert [token.index for token in call] == list(range(50))
            assert [info(replica).active_requests for replica in replicas] == [0, 0]
            seconds_until(lambda: gateway.descriptors <= descriptors, patience=10)
            after_round.append(gateway.resident_mib)
        assert after_round[2] - after_round[0] < 12, after_round
