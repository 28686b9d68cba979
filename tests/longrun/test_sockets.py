"""Thirty members on real loopback sockets, on the real clock, cut in two for a minute.

The same in virtual time, and much else, is in ``tests/membership/test_faults.py``.
"""

from inferencegw.swim.config import GATEWAY
from tests.membership.sockets import partition


async def test_thirty_that_were_cut_in_two_for_a_minute_heal_by_themselves() -> None:
    """When it ends each half holds all of the other DEAD; two heal intervals later nobody alive is DEAD for anybody."""
    healing = await partition(1, members=30, seconds=60.0)
    print(healing)
    assert healing.cut > 0
    assert healing.deaths == 2 * 15 * 15
    assert healing.seconds <= 2 * GATEWAY.heal_interval + 2.0
