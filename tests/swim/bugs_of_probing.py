"""Bugs of asking, suspecting and trusting oneself.

The rule: ``bugs.py``'s.
"""

from typing import Final

from .bugs import bug

__all__ = ["BUGS"]

BUGS: Final = (
    bug(
        0,
        "confirmations are not passed on",
        (
            "accusations.py",
            "            node.spread(news.member_id, encode_record(news.member_id, status), beside=True)\n",
            "",
        ),
    ),
    bug(
        0,
        "a confirmation shortens nothing",
        ("accusations.py", "beside=True)\n            self._arm(running)", "beside=True)"),
    ),
    bug(
        0,
        "who confirms in the last gasp cuts it short",
        ("accusations.py", "if not running.gasping:\n            # A", "if True:\n            # A"),
    ),
    bug(
        0,
        "an accuser does not give its name",
        ("accusations.py", "MemberState.SUSPECT, self._node.member_id))", "MemberState.SUSPECT))"),
    ),
    bug(
        0,
        "a sign of another process is one of the suspect",
        (
            "accusations.py",
            "if held is None or held.status.epoch != epoch or node.config.plain:",
            "if held is None or node.config.plain:",
        ),
    ),
    bug(
        0,
        "a sign of an earlier life calls a suspicion off",
        ("accusations.py", "and incarnation >= status.incarnation:", "and True:"),
    ),
    bug(0, "a sign of life changes nothing", ("accusations.py", "            running.doubt(node.now)\n", "")),
    bug(
        0,
        "a last gasp goes on after a sign of life",
        (
            "accusations.py",
            "            self._forget_gasp(member_id)\n            running.doubt",
            "            running.doubt",
        ),
    ),
    bug(
        0,
        "a late suspicion is excused again and again",
        ("accusations.py", "if stalled and not running.excused:", "if stalled:"),
    ),
    bug(
        0,
        "K is not computed anew",
        ("accusations.py", "if expected != self._expected and not self._node.config.plain:", "if False:"),
    ),
    bug(0, "K counts us", ("accusations.py", "else node.roster.alive_others", "else node.roster.alive_others + 1")),
    bug(
        0,
        "a confirmation sets a timer in the past",
        (
            "accusations.py",
            "deadline = max(self._node.now, running.deadline(self.expected))",
            "deadline = running.deadline(self.expected)",
        ),
    ),
    bug(
        0,
        "the slow give a last gasp no more time",
        ("accusations.py", "node.config.probe_timeout * gasp.scale)", "node.config.probe_timeout)"),
    ),
    bug(0, "a last gasp is never forgotten", ("accusations.py", "            self._retract(gasp)", "            pass")),
    bug(
        0,
        "a death that others have seen is waited for as a suspicion is",
        (
            "accusations.py",
            "            running.expire(self._node.now)\n            self._gasp(running)",
            "            pass",
        ),
    ),
    bug(
        0,
        "a death seen again begins the last gasp anew",
        (
            "accusations.py",
            "        if not running.gasping:\n            running.expire",
            "        if True:\n            running.expire",
        ),
    ),
    bug(
        0,
        "a member is held ALIVE by its word about a process that it has not introduced",
        ("accusations.py", "if later and meta.epoch == epoch and", "if later and"),
    ),
    bug(0, "health has no floor", ("health.py", "max(0, self.score - 1)", "self.score - 1")),
    bug(0, "a success gives no health back", ("health.py", "max(0, self.score - 1)", "self.score")),
    bug(0, "the slow are as hasty as the healthy", ("health.py", "return self.score + 1", "return 1")),
    bug(
        0,
        "to be found slow is no reason to think oneself slow",
        ("health.py", 'found us slow."""\n        self._worse(1)', 'found us slow."""'),
    ),
    bug(
        0,
        "newcomers are last in everybody's round",
        ("probe.py", "place = self._rng.randint(0, len(self._members))", "place = len(self._members)"),
    ),
    bug(
        0,
        "somebody misses its turn when another dies",
        ("probe.py", "            self._next -= 1\n", "            pass\n"),
    ),
    bug(
        0,
        "the order of probing stays",
        ("probe.py", "            self._rng.shuffle(first)\n            self._rng.shuffle(second)\n", ""),
    ),
    bug(
        0,
        "who was not asked vouches",
        ("probe.py", "if helper in self.helpers and helper not in self.vouchers:", "if helper not in self.vouchers:"),
    ),
    bug(
        0,
        "helpers are always the first ones",
        (
            "probe.py",
            "return everyone if len(everyone) <= count else self._rng.sample(everyone, count)",
            "return everyone[:count]",
        ),
    ),
    bug(
        0,
        "the slow probe as often as the healthy",
        ("prober.py", "self._due = began + config.probe_interval * scale", "self._due = began + config.probe_interval"),
    ),
    bug(
        0,
        "the slow wait no longer for an answer",
        ("prober.py", "began + config.probe_timeout * scale)", "began + config.probe_timeout)"),
    ),
    bug(
        0,
        "a nack comes when the timeout is over",
        ("prober.py", "node.config.probe_timeout * node.config.nack_fraction", "node.config.probe_timeout"),
    ),
    bug(
        0,
        "the target is asked to help",
        (
            "prober.py",
            "lambda one: one != probe.target and node.roster.is_alive(one)",
            "lambda one: node.roster.is_alive(one)",
        ),
    ),
    bug(
        0,
        "suspects are asked to help",
        (
            "prober.py",
            "lambda one: one != probe.target and node.roster.is_alive(one)",
            "lambda one: one != probe.target",
        ),
    ),
    bug(0, "every failed probe is held against us", ("prober.py", "elif not probe.vouchers:", "else:")),
    bug(
        0,
        "no failed probe is held against us",
        (
            "prober.py",
            "elif not probe.vouchers:\n            node.health.unheard()",
            "elif not probe.vouchers:\n            pass",
        ),
    ),
    bug(
        0,
        "intervals grow by what timers are late",
        ("prober.py", "began = node.now if late > config.probe_timeout / 2 else self._due", "began = node.now"),
    ),
    bug(
        0,
        "a probe that begins late has less time",
        ("prober.py", "began = node.now if late > config.probe_timeout / 2 else self._due", "began = self._due"),
    ),
    bug(
        0,
        "a late probe is excused again and again",
        ("prober.py", "elif stalled and not probe.excused:", "elif stalled:"),
    ),
    bug(
        0,
        "the silence of one that has died is a failed probe",
        (
            "prober.py",
            '        node = self._node\n        if self._is_moot(probe):\n            return\n        node.counts["failed_probes"]',
            '        node = self._node\n        node.counts["failed_probes"]',
        ),
    ),
    bug(
        0,
        "a helper passes on anybody's answer",
        ("prober.py", "if packet.sender == relay.target and not ack.target:", "if True:"),
    ),
    bug(
        0,
        "a helper passes an answer on under its own sequence",
        ("prober.py", "answer = Ack(relay.sequence, relay.target,", "answer = Ack(ack.sequence, relay.target,"),
    ),
    bug(
        0,
        "a helper listens for ever",
        ("prober.py", "            del self._relays[sequence]\n            return", "            return"),
    ),
    bug(0, "a helper helps without a limit", ("prober.py", "or len(self._relays) >= MAX_RELAYS or", "or")),
    bug(
        0,
        "a helper that has no answer yet has none later",
        ("prober.py", "        relay.late = True\n", "        del self._relays[sequence]\n        relay.late = True\n"),
        (
            "prober.py",
            "node, relay = self._node, self._relays[sequence]\n        if relay.late:\n            del self._relays[sequence]\n            return",
            "node, relay = self._node, self._relays.get(sequence)\n        if relay is None:\n            return",
        ),
    ),
    bug(
        0,
        "a helper floods whom it is told to",
        (
            "prober.py",
            "limit = node.config.max_packet_bytes if known else AMPLIFICATION * size",
            "limit = node.config.max_packet_bytes",
        ),
    ),
    bug(
        0,
        "a helper asks wherever it is told to",
        (
            "prober.py",
            "address = node.roster.address(request.target) if known else request.address",
            "address = request.address",
        ),
    ),
    bug(
        0,
        "an answer from elsewhere proves the address that was asked",
        ("prober.py", "elif node.source == probe.address:", "else:"),
    ),
    bug(
        0,
        "an answer in time does not end the probe's waiting",
        (
            "prober.py",
            "            node.health.probe_succeeded()\n            node.timers.set(PROBE, self._due)",
            "            node.health.probe_succeeded()",
        ),
    ),
    bug(0, "a success is no reason to feel healthy", ("prober.py", "            node.health.probe_succeeded()\n", "")),
    bug(
        0,
        "a helper's answer measures the way",
        ("prober.py", "self._succeed(probe, direct=not ack.target)", "self._succeed(probe, direct=True)"),
    ),
    bug(
        0,
        "the round trips of the pruned are kept",
        ("prober.py", "        self.rtt.pop(member_id, None)", "        pass"),
    ),
    bug(
        0,
        "questions are remembered for ever",
        ("prober.py", "            self._retract(self._current)", "            pass"),
    ),
    bug(0, "whoever asks is helped, member or not", ("prober.py", "if not is_member or len", "if len")),
    bug(
        0,
        "a helper's answers have no limit",
        ("prober.py", "share = node.reserve_allowance() / 2", "share = float('inf')"),
    ),
    bug(0, "to be late is no reason to think oneself slow", ("protocol.py", "            node.health.late()\n", "")),
    bug(
        0,
        "any timer that is late at all is one we slept through",
        ("protocol.py", "> node.config.probe_interval / 2", "> 0"),
    ),
    bug(0, "the dead are not tried", ("protocol.py", "        self._contacts.lose(record)\n", "")),
    bug(0, "the dead who return keep a tombstone", ("protocol.py", "        self._tombstones.unbury(record)\n", "")),
    bug(0, "who has left may speak", ("protocol.py", "if not (self._node.left or self._node.stopped):", "if True:")),
    bug(
        0,
        "a suspicion that nobody can confirm lasts longest",
        ("suspicion.py", "if expected <= 0:\n        return shortest", "if expected <= 0:\n        return longest"),
    ),
    bug(
        0,
        "a suspicion shortens evenly",
        (
            "suspicion.py",
            "share = math.log(min(confirmations, expected) + 1) / math.log(expected + 1)",
            "share = min(confirmations, expected) / expected",
        ),
    ),
    bug(0, "who has no name confirms", ("suspicion.py", "if not accuser or accuser", "if accuser")),
    bug(0, "any number of accusers confirm", ("suspicion.py", " or self.confirmations >= expected", "")),
    bug(0, "who confirmed before a sign of life still counts", ("suspicion.py", "self._others.clear()", "pass")),
    bug(
        0,
        "a sign of life gives no time",
        ("suspicion.py", "self._others.clear()\n        self._floor = now + self._shortest", "self._others.clear()"),
    ),
    bug(
        0,
        "an excuse gives no time",
        ("suspicion.py", "self.excused = True\n        self._floor = now + self._shortest", "self.excused = True"),
    ),
    bug(
        0,
        "who is found dead elsewhere has the longest time here",
        (
            "suspicion.py",
            "self._longest = self._shortest\n        self._started = now - self._shortest\n        self._floor = now",
            "pass",
        ),
    ),
    bug(
        0,
        "a deadline forgets the sign of life before it",
        ("suspicion.py", "return max(self._floor, self._started + timeout)", "return self._started + timeout"),
    ),
)
