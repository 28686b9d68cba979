"""swim/node.py: what every packet keeps to, and who is told what in it."""

import random
from collections import Counter

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencegw.errors import ConfigError
from inferencegw.swim.config import GATEWAY, SwimConfig
from inferencegw.swim.effects import MemberChanged
from inferencegw.swim.member import Load, MemberState, Meta, Record
from inferencegw.swim.messages import Ack, Packet, Ping, PingReq, SyncWant
from inferencegw.swim.node import AMPLIFICATION, LOADS, Timer
from inferencegw.swim.protocol import SwimProtocol

from .stage import EPOCH, ME, WALL, Stage, alive, status, where
from .wire import datagram

ALIVE, SUSPECT, DEAD, LEFT = MemberState
FOUR = ["a", "b", "c", "d"]


def flood(stage: Stage, count: int = 300) -> None:
    """Fill the queue with news about strangers, more than any packet holds."""
    for number in range(count):
        stage.hear("d", records=[alive(f"x{number:03}")])
    stage.sent.clear()


# -- the buddy system --------------------------------------------------------------------------------------------------


def test_a_ping_tells_a_suspect_that_it_is_suspected_even_when_the_queue_is_full() -> None:
    """First of all its records, so that it can object at once."""
    stage = Stage("a")
    flood(stage)
    stage.core._prober.accusations.accuse("a")
    while True:
        target, _ = stage.next_probe()
        if target == "a":
            break
    (ping,) = [out for out in stage.sent if isinstance(out.kind, Ping) and out.to == where("a")]
    assert (ping.packet.records[0].member_id, ping.packet.records[0].status) == ("a", stage.held("a"))


@pytest.mark.parametrize("state", [SUSPECT, DEAD, LEFT])
def test_an_ack_tells_a_pinger_what_is_held_of_it_even_when_the_queue_is_full(state: MemberState) -> None:
    """A member that is taken for dead learns it from the first one it speaks to."""
    stage = Stage(*FOUR)
    stage.hear("b", records=[status("a", state, 0, "b" if state is SUSPECT else "")])
    flood(stage)
    (out,) = stage.hear("a", Ping(5, ME, EPOCH))
    assert out.kind == Ack(5)
    assert out.packet.records[0] == stage.core.members["a"] or out.about("a")[0].state is state
    assert out.packet.records[0].member_id == "a"


@pytest.mark.parametrize("state", [SUSPECT, DEAD, LEFT])
def test_whoever_speaks_without_asking_is_told_too(state: MemberState) -> None:
    """One packet for one packet."""
    stage = Stage(*FOUR)
    stage.hear("b", records=[status("a", state, 0, "b" if state is SUSPECT else "")])
    stage.core._node.news.retain(lambda _: False)
    (out,) = stage.hear("a")
    assert (out.to, out.about("a")) == (where("a"), [stage.held("a")])


def test_who_is_up_to_date_is_told_nothing() -> None:
    """No packet is answered that asks nothing and misses nothing."""
    stage = Stage(*FOUR)
    assert stage.hear("a") == []
    assert stage.hear("a", incarnation=1) == []
    assert stage.held("a") == alive("a", 1).status


def test_who_speaks_from_an_epoch_that_is_over_is_shown_the_present_one() -> None:
    """With its address: if two run by one name, the older one can find the younger."""
    stage = Stage("a", "b")
    stage.hear("b", records=[alive("a", epoch=EPOCH + 9)])
    stage.core._node.news.retain(lambda _: False)
    (out,) = stage.hear("a", epoch=EPOCH)
    assert out.packet.records == (alive("a", epoch=EPOCH + 9),)


def test_in_plain_mode_nobody_is_told() -> None:
    """Move d is switched off."""
    stage = Stage(*FOUR, config=SwimConfig(plain=True))
    stage.hear("b", records=[status("a", DEAD)])
    stage.core._node.news.retain(lambda _: False)
    assert stage.hear("a") == []
    (out,) = stage.hear("a", Ping(5, ME, EPOCH))
    assert out.packet.records == ()


# -- size --------------------------------------------------------------------------------------------------------------


@given(
    own=st.integers(1, 64),
    label=st.integers(0, 64),
    longest=st.sampled_from([1024, 1400, 9000]),
    names=st.lists(st.integers(1, 64), max_size=40),
    crowd=st.booleans(),
)
def test_no_packet_is_longer_than_configured_with_any_mix_of_names_news_and_kinds(
    own: int, label: int, longest: int, names: list[int], *, crowd: bool
) -> None:
    """The longest ids, labels and metadata included."""
    config = SwimConfig(max_packet_bytes=longest)
    core = SwimProtocol(
        "m" * own,
        ("h" * 60, 7946),
        Meta(model="m" * 64, model_version="v" * 64, grpc_address="g" * 50),
        config,
        rng=random.Random(1),
        now=0.0,
        wall_at_zero=WALL,
        label="l" * label,
    )
    sizes: list[int] = []

    def note(effects: object) -> None:
        assert isinstance(effects, list)
        sizes.extend(len(effect.data) for effect in effects if hasattr(effect, "data"))

    envelope = core._reception._envelope
    for number, length in enumerate(names):
        name = f"{number:02}".ljust(length, "x")[:64]
        packet = Packet(
            name, EPOCH, 0, 1, number if crowd else core.digest, None, None, (alive(name, model="m" * 150),)
        )
        note(core.handle_datagram_untrusted(datagram(packet, envelope), (name, 1), 0.0))
    while core.next_deadline() < 3.0:
        note(core.handle_timeout(core.next_deadline()))
    note(core.leave(3.0))
    assert all(size <= longest for size in sizes)


def test_metadata_that_cannot_be_told_is_refused_where_it_is_set() -> None:
    """By its owner, before anybody hears of it; nothing changes."""
    stage = Stage("a")
    before = stage.core.members[ME]
    with pytest.raises(ConfigError, match=r"metadata has 4\d\d bytes: must have at most 256"):
        stage.core.set_meta(Meta(model="m" * 400), stage.now)
    assert stage.core.members[ME] is before
    with pytest.raises(ConfigError, match="must have at most 256"):
        SwimProtocol("b", ("b", 1), Meta(model="m" * 400), GATEWAY, rng=random.Random(1), now=0.0, wall_at_zero=WALL)


@pytest.mark.parametrize(
    ("address", "meta", "why"),
    [
        (("h", 0), Meta(), "port"),
        (("h", 70_000), Meta(), "port"),
        (("", 1), Meta(), "host"),
        (("two words", 1), Meta(), "host"),
        (("h", 1), Meta(weight=1001), "weight"),
        (("h", 1), Meta(weight=-1), "weight"),
        (("h", 1), Meta(max_capacity=65_537), "capacity"),
    ],
)
def test_metadata_that_others_would_refuse_is_refused_where_it_is_set(
    address: tuple[str, int], meta: Meta, why: str
) -> None:
    """The owner is told; otherwise it would be the one member that nobody believes in."""
    with pytest.raises(ConfigError, match=f"others would refuse it: .*{why}"):
        SwimProtocol("b", address, meta, GATEWAY, rng=random.Random(1), now=0.0, wall_at_zero=WALL)


@pytest.mark.parametrize("name", ["", "x" * 65, "\u00fc" * 33])
def test_a_name_has_from_one_to_64_bytes(name: str) -> None:
    """Others would refuse every packet of a member with another one."""
    with pytest.raises(ConfigError, match=r"member_id = .*from 1 to 64 bytes"):
        SwimProtocol(name, ("b", 1), Meta(), GATEWAY, rng=random.Random(1), now=0.0, wall_at_zero=WALL)


# -- amplification -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, Ping(1, ME, 0), Ping(1, ME, 3), PingReq(1, "v", 1, ("victim", 9))], ids=str)
def test_an_address_that_never_answered_gets_no_more_than_three_times_what_came_from_there(
    kind: Ping | PingReq | None,
) -> None:
    """Whoever forges a source address cannot make us flood it, however much there is to say."""
    stage = Stage(*FOUR)
    flood(stage)
    stage.hear("d", records=[status("a", DEAD)])
    packet = Packet("a", EPOCH, 0, 500, 0, None, kind, ())
    data = datagram(packet)
    sent = stage.deliver(data, ("victim", 9))
    assert sum(out.size for out in sent if out.to == ("victim", 9)) <= AMPLIFICATION * len(data)
    assert sent


def test_an_address_that_has_answered_a_probe_may_be_sent_full_packets() -> None:
    """Then it is there, and wants to know."""
    stage = Stage("a")
    target, ping = stage.next_probe()
    stage.hear(target, Ack(ping.sequence))
    flood(stage)
    (out,) = stage.hear("a", Ping(5, ME, EPOCH))
    assert out.size > 1200


def test_an_answer_from_elsewhere_proves_nothing_about_either_address() -> None:
    """The ack must come from where the ping went."""
    stage = Stage("a")
    target, ping = stage.next_probe()
    stage.hear(target, Ack(ping.sequence), source=("elsewhere", 1))
    assert not stage.core._node._proved
    assert stage.state("a") is ALIVE


def test_only_so_many_proved_addresses_are_remembered() -> None:
    """The first ones are forgotten first; they prove themselves again."""
    stage = Stage(config=SwimConfig(max_members=10))
    for number in range(20):
        stage.core._node.prove((f"h{number}", 1))
    assert list(stage.core._node._proved) == [(f"h{number}", 1) for number in range(10, 20)]


# -- gossip ------------------------------------------------------------------------------------------------------------


def test_fresh_news_is_told_at_once_and_then_once_an_interval_to_three() -> None:
    """The first round does not wait; nobody is told more often than the budget says; then there is silence."""
    stage = Stage(*FOUR, "e", "f")
    stage.only_timer(Timer.GOSSIP, 60)
    stage.wait(1)
    stage.hear("a", records=[alive("b", 1)])
    began = stage.now
    sent = stage.wait(5)
    rounds = Counter(round((out.at - began) / GATEWAY.gossip_interval, 6) for out in sent)
    assert sorted(rounds) == list(range(len(rounds)))
    assert max(rounds.values()) <= GATEWAY.gossip_fanout
    assert len(sent) == GATEWAY.retransmissions(7) == 7
    assert all(out.about("b") == [alive("b", 1).status] and out.to != where("b") for out in sent)


def test_news_that_everybody_is_seen_to_have_is_told_no_more() -> None:
    """Equal digests from as many members in a row as would be told: it has gone round."""
    stage = Stage(*FOUR)
    stage.hear("a", records=[alive("b", 1)])
    assert len(stage.core._node.news) == 1
    for one in ("b", "c", "d"):
        stage.hear(one, incarnation=1 if one == "b" else 0)
    assert len(stage.core._node.news) == 1
    stage.hear("a")
    assert len(stage.core._node.news) == 0


def test_who_agreed_before_something_newer_came_has_not_agreed_on_that() -> None:
    """Agreement is about one view: another one has to be seen by as many again."""
    stage = Stage(*FOUR)
    stage.hear("a", records=[alive("b", 1)])
    for one in ("a", "c", "d"):
        stage.hear(one)
    stage.hear("a", records=[alive("c", 1)])
    stage.hear("b", incarnation=1)
    assert len(stage.core._node.news) == 2


def test_other_metadata_of_the_same_version_is_news() -> None:
    """Two owners of one name: everybody has to come to the same one of them, so the one that wins is told on."""
    stage = Stage(*FOUR)
    held = stage.core.members["b"].meta
    assert held is not None
    model = next(name for name in map(str, range(100)) if attrs.evolve(held, model=name).key > held.key)
    stage.hear("a", records=[alive("b", model=model)])
    assert len(stage.core._node.news) == 1


def test_who_accuses_is_told_on_although_views_agree() -> None:
    """It is not in the digest, and shortens the suspicion elsewhere."""
    stage = Stage(*FOUR)
    stage.hear("a", records=[status("b", SUSPECT, 0, "a")])
    for _ in range(3):
        for one in FOUR:
            stage.hear(one)
    assert len(stage.core._node.news) == 1


def test_load_rides_along_but_is_no_reason_to_speak() -> None:
    """The lowest priority: no packet is sent for it, at most a few go in each, and the owner's own is on all of its."""
    stage = Stage(*(f"m{number}" for number in range(20)))
    for number in range(20):
        name = f"m{number}"
        stage.hear("m0", records=[Record(name, stage.held(name), None, Load(EPOCH, 1, number))])
        assert stage.core.members[name].load == Load(EPOCH, 1, number)
    stage.only_timer(Timer.GOSSIP, 60)
    assert stage.wait(10) == []
    (out,) = stage.hear("m0", Ping(1, ME, EPOCH), source=("m0", 7946))
    stage.note(stage.core.set_load(7, stage.now))
    stage.core._node.prove(where("m0"))
    (out,) = stage.hear("m0", Ping(2, ME, EPOCH))
    assert len(out.packet.records) == LOADS
    assert out.packet.load == Load(EPOCH, 1, 7)


def test_the_load_of_the_dead_is_not_told() -> None:
    """Nobody sends work there."""
    stage = Stage(*FOUR)
    stage.hear("a", records=[Record("b", stage.held("b"), None, Load(EPOCH, 1, 5))])
    stage.hear("a", records=[status("b", DEAD)])
    stage.core._node.prove(where("a"))
    (out,) = stage.hear("a", Ping(1, ME, EPOCH))
    assert all(record.load is None for record in out.packet.records)


def test_whom_a_member_wants_us_to_ask_is_sent_no_more_than_three_times_what_was_asked() -> None:
    """Nobody we know is there: without a limit, a forged request would have us flood anybody."""
    stage = Stage(*FOUR)
    flood(stage)
    request = datagram(Packet("a", EPOCH, 0, 99, 0, None, PingReq(1, "nobody", EPOCH, ("victim", 1))))
    (out,) = [out for out in stage.deliver(request, where("a")) if out.to == ("victim", 1)]
    assert out.size <= AMPLIFICATION * len(request)


def test_several_answers_to_one_packet_share_its_allowance() -> None:
    """A question for everybody takes two packets, each of which alone would be short enough."""
    stage = Stage(*(f"m{number:02}" for number in range(60)))
    question = datagram(Packet("x", EPOCH, 0, 1, stage.core.digest, None, SyncWant(tuple(stage.core.members))))
    sent = stage.deliver(question, ("x", 1))
    assert 0 < sum(out.size for out in sent) <= AMPLIFICATION * len(question)


def test_a_members_own_load_is_taken_from_the_header_of_its_packets() -> None:
    """Later reports replace earlier ones, and never the other way round."""
    stage = Stage("a")
    for sequence, active in ((2, 5), (1, 9), (3, 6)):
        packet = Packet("a", EPOCH, 0, 100 + sequence, stage.core.digest, Load(EPOCH, sequence, active))
        stage.deliver(datagram(packet), where("a"))
    assert stage.core.members["a"].load == Load(EPOCH, 3, 6)
    loads = [effect.after.load for effect in stage.effects if isinstance(effect, MemberChanged)]
    assert loads == [Load(EPOCH, 2, 5), Load(EPOCH, 3, 6)]
