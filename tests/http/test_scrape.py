"""http/scrape.py: however many scrape, the metrics are looked up ten times a second."""

import trio
from trio.testing import MockClock

from inferencegw.http.scrape import SHARED, Scrape
from inferencegw.telemetry.exposition import Readings


async def test_all_who_scrape_at_the_same_time_have_one_answer_and_the_next_is_new(autojump_clock: MockClock) -> None:
    """A flood of scrapes looks the metrics up once; what has changed since is told when that is old."""
    looked: list[float] = []

    def read() -> Readings:
        looked.append(trio.current_time())
        return {"inflight": len(looked)}

    scrape = Scrape(read)
    first = scrape.text()
    assert b"inferencegw_inflight 1.0\n" in first
    assert [scrape.text() for _ in range(100)] == [first] * 100
    await trio.sleep(SHARED / 2)
    assert scrape.text() == first
    await trio.sleep(SHARED)
    assert b"inferencegw_inflight 2.0\n" in scrape.text()
    assert looked == [trio.current_time() - 1.5 * SHARED, trio.current_time()]
