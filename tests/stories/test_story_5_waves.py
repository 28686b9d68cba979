"""Story 5: eight requests on four slots are two waves, in order."""

from typing import Final

import pytest

from inferencegw.testing import Answer, TestCluster

from .harness import CALM, METRONOME, Client, gateway_of, generate_all, is_virtual, on_both_networks

TOKEN: Final = 0.1
"""Seconds."""

WAYS: Final = 0.01
"""Seconds that calls spend on their ways, there and back, at most."""


def ticket_of(cluster: TestCluster, answer: Answer) -> int:
    """A call's number in the queue, as ``trio-gw why`` has it; 0 if it never waited there."""
    record = gateway_of(cluster).records.find(answer.trailer("gw-request-id"))
    assert record is not None
    return record.to_proto().ticket.number


@on_both_networks(replicas=1, replica={"token_delay": TOKEN, "max_capacity": 4, **METRONOME}, **CALM)
async def test_eight_requests_on_four_slots_are_served_in_two_waves_in_order(
    cluster: TestCluster, client: Client
) -> None:
    """All succeed; the second four have their first tokens strictly after the first four's last, in their order."""
    answers = await generate_all(cluster, client, [f"prompt {number}" for number in range(8)], max_tokens=5)
    assert all(answer.is_whole for answer in answers)
    # That slots are handed out in the order of tickets a checker sees to.
    assert [ticket_of(cluster, answer) for answer in answers] == [0, 0, 0, 0, 5, 6, 7, 8]
    if is_virtual(cluster):
        firsts = [answer.first_at or 0.0 for answer in answers]
        assert firsts == sorted(firsts)
        assert min(firsts[4:]) > max(answer.ended for answer in answers[:4])
        waited = [first - answer.begun for first, answer in zip(firsts, answers, strict=True)]
        assert waited == pytest.approx([TOKEN] * 4 + [6 * TOKEN] * 4, abs=WAYS)
