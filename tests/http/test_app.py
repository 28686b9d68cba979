"""http/app.py through its port: what a scraper, a probe and a load balancer are told."""

import random
from functools import partial

import httpx2
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from inferencegw.gateway import Gateway, run_gateway
from inferencegw.http.app import LAG_INTERVAL, measure_lag, serve_http
from inferencegw.telemetry.catalogue import CATALOGUE
from inferencegw.telemetry.meter import Histogram
from tests.gateway.house import scripted
from tests.gateway.support import address_of, config, wait_for_ever
from tests.http.support import PATIENCE, a_front


async def test_a_scrape_has_every_metric_and_what_was_counted() -> None:
    """As Prometheus reads it: every row of the catalogue has its type, and a call that was made is in it."""
    async with a_front(*scripted(1)) as front:
        await front.call()
        answer = await front.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    names = [metric.full_name.removesuffix("_total") for metric in CATALOGUE]
    assert [name for name in families if name.startswith("inferencegw_")] == names
    assert [sample.value for sample in families["inferencegw_tokens_delivered"].samples] == [3]
    assert "process_resident_memory_bytes" in families


async def test_a_gateway_with_a_replica_is_alive_and_ready() -> None:
    """One word each, for people; the status is for machines. HEAD is answered as well."""
    async with a_front(*scripted(1)) as front:
        for path, word in (("/healthz", "ok"), ("/readyz", "ready")):
            answer = await front.get(path)
            assert (answer.status_code, answer.text) == (200, f"{word}\n")
            assert (await front.client.head(path)).status_code == 200
            assert (await front.client.post(path)).status_code == 405
        assert (await front.get("/elsewhere")).status_code == 404


async def test_a_path_with_a_slash_too_many_leads_nowhere() -> None:
    """A redirect would go to the name in ``Host``, which whoever asks may choose."""
    async with a_front() as front:
        for path in ("/metrics/", "/readyz/", "/events/"):
            answer = await front.get(path, host="elsewhere.example")
            assert (answer.status_code, answer.headers.get("location")) == (404, None)


async def test_a_gateway_without_a_replica_is_alive_and_not_ready() -> None:
    """Starting it again would bring no replica, and no call should be sent to it."""
    async with a_front() as front:
        assert (await front.get("/healthz")).status_code == 200
        answer = await front.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready: no replica takes calls\n")


async def test_a_gateway_that_was_told_whom_to_join_is_not_ready_before_it_has_met_somebody() -> None:
    """A replica that it was told of is connected, and still it may be cut off from the others: it has heard nobody."""
    async with a_front(*scripted(1), gossip_port=0, join=("127.0.0.1:9",), gossip_profile="fast") as front:
        answer = await front.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready: the gossip has found nobody yet\n")
        assert front.gateway.membership is not None
        seed = address_of(front.gateway.membership.cluster.view.members[front.gateway.membership.member_id].address)
        fellow = Gateway(config(gossip_port=0, join=(seed,), gossip_profile="fast"), rng=random.Random(1))
        await front.nursery.start(fellow.run)
        await front.gateway.membership.cluster.wait_until(lambda view: not view.is_alone)
        assert (await front.get("/readyz")).status_code == 200


async def test_a_gateway_that_drains_is_not_ready_and_is_looked_at_to_its_end() -> None:
    """HTTP outlives the drain."""
    [replica] = scripted(1, script=wait_for_ever)
    async with a_front(replica) as front:
        front.nursery.start_soon(front.call)
        await replica.until(lambda: replica.active == 1)
        front.gateway.drain()
        answer = await front.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready: it drains\n")
        assert "inferencegw_drain_seconds 0.0\n" not in (await front.get("/metrics")).text


async def test_before_the_gateway_listens_it_is_not_ready_and_its_metrics_are_empty() -> None:
    """HTTP is first, and says how it is."""
    async with trio.open_nursery() as nursery:
        gateway = Gateway(config("127.0.0.1:1", http_port=0))
        place = (await nursery.start(partial(serve_http, gateway)))["http"]
        async with httpx2.AsyncClient(base_url=f"http://{address_of(place)}") as client:
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.text) == (503, "not ready: it does not listen yet\n")
            assert "inferencegw_build_info{" not in (await client.get("/metrics")).text
        nursery.cancel_scope.cancel()


async def test_the_gateway_reports_http_with_its_other_addresses_and_takes_it_down_last() -> None:
    """What the ready line is made of; nothing listens after the end."""
    settings = config("127.0.0.1:1", http_port=0)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            gateways: list[Gateway] = []

            async def beside(gateway: Gateway, *, task_status: trio.TaskStatus[dict[str, tuple[str, int]]]) -> None:
                gateways.append(gateway)
                await serve_http(gateway, task_status=task_status)

            start = partial(run_gateway, settings, handle_signals=False, beside=beside)
            served = await nursery.start(start)
            assert list(served) == ["grpc", "http"]
            gateways[0].drain()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(*served["http"])


async def test_a_port_that_is_taken_names_itself_and_its_option() -> None:
    """Nothing of the gateway has started by then."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        place = listener.socket.getsockname()
        settings = config("127.0.0.1:1", http_port=place[1])
        with pytest.RaisesGroup(OSError, flatten_subgroups=True) as caught:
            await run_gateway(settings, handle_signals=False, beside=serve_http)
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        assert isinstance(error, OSError)
        assert (error.filename, error.filename2) == (address_of(place), "http-port")


async def test_the_loop_s_lag_is_looked_at_again_and_again(autojump_clock: MockClock) -> None:
    """In virtual time nobody is late."""
    lag = Histogram((0.001,))
    with trio.move_on_after(10.25 * LAG_INTERVAL):
        await measure_lag(lag)
    assert (next(iter(lag.buckets()))[1], lag.count) == (10, 10)
