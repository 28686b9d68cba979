"""Bugs of what is known, kept and encoded: the order of news, its queue, its memory, its wire.

The rule: ``bugs.py``'s.
"""

from typing import Final

from .bugs import bug

__all__ = ["BUGS"]

BUGS: Final = (
    bug(
        0,
        "an id is measured in characters",
        ("codec.py", " or (not text.isascii() and len(text.encode()) > MAX_ID_BYTES)", ""),
    ),
    bug(
        0,
        "a state of a later version spoils its packet",
        (
            "codec.py",
            "    if state is None:\n        return None\n    if not message.epoch:",
            '    if state is None:\n        raise ValueError("a state")\n    if not message.epoch:',
        ),
    ),
    bug(
        0,
        "metadata of a later incarnation than its status is taken",
        ("codec.py", " or meta.incarnation > status.incarnation:", ":"),
    ),
    bug(
        0,
        "metadata beside any state is taken",
        ("codec.py", "if status.state is not MemberState.ALIVE:\n            raise", "if False:\n            raise"),
    ),
    bug(0, "fields of later versions are lost", ("codec.py", "later=message.SerializeToString())", 'later=b"")')),
    bug(
        0,
        "a role of a later version is lost",
        ("codec.py", "_ROLES.get(message.role, message.role)", "_ROLES.get(message.role, 0)"),
    ),
    bug(
        0,
        "what breaks a rule is raised",
        ("codec.py", "except (DecodeError, ValueError) as error:", "except DecodeError as error:"),
    ),
    bug(
        0,
        "what is no protobuf is raised",
        ("codec.py", "except (DecodeError, ValueError) as error:", "except ValueError as error:"),
    ),
    bug(
        0,
        "decoded records are kept without a limit",
        (
            "codec.py",
            "@functools.lru_cache(maxsize=CACHED)\ndef _record(",
            "@functools.lru_cache(maxsize=None)\ndef _record(",
        ),
    ),
    bug(
        0,
        "an offer loses the epoch of metadata",
        ("codec.py", "message.meta_epoch = 0 if meta_epoch == epoch else meta_epoch", "message.meta_epoch = 0"),
    ),
    bug(0, "any incarnation is taken", ("codec.py", "if value > MAX_INCARNATION:", "if False:")),
    bug(
        0,
        "long records are taken",
        (
            "codec.py",
            '    if len(data) > MAX_RECORD_BYTES:\n        raise ValueError("a record',
            '    if False:\n        raise ValueError("a record',
        ),
    ),
    bug(0, "long metadata is taken", ("codec.py", "if len(meta.content) > MAX_CONTENT_BYTES:", "if False:")),
    bug(
        0,
        "the content of a packet's load is lost",
        (
            "codec.py",
            "message.load.sequence, message.load.active_requests = load.sequence, load.active",
            "message.load.sequence = load.sequence",
        ),
    ),
    bug(
        0,
        "small clusters suspect for no time",
        ("config.py", "max(1.0, math.log10(max(1, members)))", "math.log10(max(1, members))"),
    ),
    bug(
        0,
        "the longest suspicion is the shortest",
        ("config.py", "return shortest, self.suspicion_beta * shortest", "return shortest, shortest"),
    ),
    bug(0, "news is told once less often", ("config.py", "return math.ceil(", "return int(")),
    bug(0, "helpers may have no time", ("config.py", "if self.probe_timeout >= self.probe_interval:", "if False:")),
    bug(
        0,
        "what was sent most goes first",
        ("dissemination.py", "return (self.sends, -len", "return (-self.sends, -len"),
    ),
    bug(
        0,
        "the shortest goes first",
        ("dissemination.py", "return (self.sends, -len(self.data)", "return (self.sends, len(self.data)"),
    ),
    bug(0, "old news of a member stays beside newer", ("dissemination.py", "if not beside:", "if False:")),
    bug(0, "a further accuser replaces the first", ("dissemination.py", "if not beside:", "if True:")),
    bug(
        0,
        "news is sent once too often",
        (
            "dissemination.py",
            "            if item.sends >= budget:\n                self._drop(again.pop())",
            "            if item.sends > budget:\n                self._drop(again.pop())",
        ),
    ),
    bug(
        0,
        "news stays although the cluster has shrunk",
        ("dissemination.py", "if item.sends >= budget:  # the cluster has shrunk", "if False:"),
    ),
    bug(0, "the queue grows", ("dissemination.py", "if self._count >= self._limit:", "if False:")),
    bug(
        0, "the queue's heap grows", ("dissemination.py", "if len(self._heap) > 2 * self._count + SLACK:", "if False:")
    ),
    bug(
        0,
        "replaced news is still sent",
        (
            "dissemination.py",
            "            if not item.live:\n                continue",
            "            if False:\n                continue",
        ),
    ),
    bug(0, "a member is sent news of itself", ("dissemination.py", "if item.subject == but:", "if False:")),
    bug(0, "news is in a packet twice", ("dissemination.py", "if item.data not in besides:", "if True:")),
    bug(0, "packets are overfilled with news", ("dissemination.py", "if len(item.data) > room:", "if False:")),
    bug(0, "load reports crowd a packet", ("dissemination.py", "and (most is None or len(taken) < most)", "")),
    bug(
        0, "the checksum leaves the label out", ("envelope.py", "self._crc = zlib.crc32(self._prefix)", "self._crc = 0")
    ),
    bug(
        0,
        "the checksum is not looked at",
        (
            "envelope.py",
            "            if zlib.crc32(body, self._crc) != int.from_bytes(data[start : start + _CRC_BYTES]):\n                return BadPacket(DropReason.CHECKSUM)\n",
            "",
        ),
    ),
    bug(
        0,
        "the label is not under the seal",
        ("envelope.py", "self._keyring.seal(nonce, body, self._prefix)", 'self._keyring.seal(nonce, body, b"")'),
        ("envelope.py", "data[start + NONCE_BYTES :], prefix)", 'data[start + NONCE_BYTES :], b"")'),
    ),
    bug(0, "datagrams of any length are looked at", ("envelope.py", "if len(data) > MAX_DATAGRAM_BYTES:", "if False:")),
    bug(
        0, "a datagram too short to be judged is judged", ("envelope.py", "if len(data) < self.overhead:", "if False:")
    ),
    bug(
        0,
        "another cluster's label is a broken packet",
        ("envelope.py", "return BadPacket(DropReason.LABEL)", "return BadPacket(DropReason.FOREIGN)"),
    ),
    bug(
        0,
        "sealed where none is and unsealed where one is are mixed up",
        (
            "envelope.py",
            "DropReason.SEALED if data[3] == _SEALED else DropReason.UNSEALED",
            "DropReason.UNSEALED if data[3] == _SEALED else DropReason.SEALED",
        ),
    ),
    bug(
        0,
        "a nonce is used twice",
        ("envelope.py", "        nonce = self._nonce()\n", "        nonce = bytes(NONCE_BYTES)\n"),
    ),
    bug(
        0,
        "of a stranger the last word counts",
        ("hearsay.py", "known if known is not None and known[0] > status else (status, until)", "(status, until)"),
    ),
    bug(0, "hearsay grows", ("hearsay.py", "if len(self._heard) > LIMIT:", "if False:")),
    bug(0, "hearsay is for ever", ("hearsay.py", "if known[1] <= now:", "if False:")),
    bug(
        0,
        "only the first key opens",
        ("keyring.py", "for cipher in self._keys.values():", "for cipher in list(self._keys.values())[:1]:"),
    ),
    bug(
        0,
        "a key that is added seals at once",
        ("keyring.py", "self.replace([*self._keys, key])", "self.replace([key, *self._keys])"),
    ),
    bug(
        0,
        "the last key can be taken away",
        ("keyring.py", "if not 1 <= len(wanted) <= MAX_KEYS:", "if not len(wanted) <= MAX_KEYS:"),
    ),
    bug(
        0,
        "the accuser is part of what views must agree on",
        (
            "member.py",
            'object.__setattr__(self, "version", version)',
            'object.__setattr__(self, "version", (*version, self.accuser))',
        ),
    ),
    bug(
        0,
        "the earlier load report wins",
        (
            "member.py",
            "return b if b.key > a.key else a\n\n\ndef _later_load(a: Load | None, b: Load | None) -> Load | None:\n    if a is None or b is None:\n        return b if a is None else a\n    return b if b.key > a.key else a",
            "return b if b.key > a.key else a\n\n\ndef _later_load(a: Load | None, b: Load | None) -> Load | None:\n    if a is None or b is None:\n        return b if a is None else a\n    return a if b.key > a.key else b",
        ),
    ),
    bug(
        0,
        "two loads of one sequence do not have an order",
        ("member.py", "return (self.epoch, self.sequence, self.active)", "return (self.epoch, self.sequence, 0)"),
    ),
    bug(
        0,
        "a merge makes a new record of what it had",
        ("member.py", "if status is whole.status and meta is whole.meta and load is whole.load:", "if False:"),
    ),
    bug(
        0,
        "metadata of one version has no order",
        ("meta.py", "return (self.epoch, self.incarnation, self.digest)", "return (self.epoch, self.incarnation, 0)"),
    ),
    bug(0, "a cordon is not told", ("meta.py", "            _number(10, self.cordoned),\n", "")),
    bug(
        0,
        "a weight is kept with more digits than the wire has",
        ("meta.py", "attrs.field(default=1.0, converter=_single)", "1.0"),
    ),
    bug(
        0,
        "any text is a host",
        ("meta.py", 'if not (host and host.isascii() and host.isprintable() and " " not in host):', "if False:"),
    ),
    bug(
        0,
        "the digest keeps what was replaced",
        ("roster.py", "lost = 0 if before is None else member_digest(before)", "lost = 0"),
    ),
    bug(
        0,
        "those ALIVE are counted up and never down",
        (
            "roster.py",
            "(record.status.state is MemberState.ALIVE) - was_alive",
            "(record.status.state is MemberState.ALIVE)",
        ),
    ),
    bug(
        0,
        "the dead are still probed",
        ("roster.py", "                self.schedule.discard(member_id)\n", "                pass\n"),
    ),
    bug(
        0,
        "the dead are still offered",
        ("roster.py", "            del self._sorted[bisect_left(self._sorted, member_id)]\n", ""),
    ),
    bug(
        0,
        "a stretch begins with the member that it begins after",
        ("roster.py", "first = bisect_right(self._sorted, after)", "first = bisect_left(self._sorted, after)"),
    ),
    bug(
        0,
        "the digest is of statuses alone",
        (
            "sync.py",
            "return _mix(record.member_id, record.status.version, record.meta.key)",
            "return _mix(record.member_id, record.status.version, (0, 0, 0))",
        ),
    ),
    bug(
        0,
        "the last offer ends with its last member",
        (
            "sync.py",
            'bounds = ["", *(chunk[-1].member_id for chunk in chunks[:-1]), ""]',
            'bounds = ["", *(chunk[-1].member_id for chunk in chunks)]',
        ),
    ),
    bug(0, "a stretch is one byte too long", ("sync.py", "if size > left:", "if size > left + 1:")),
    bug(0, "a cancelled timer goes off", ("timers.py", "self._when.pop(key, None)", "pass")),
    bug(
        0,
        "a moved timer goes off when it was due before",
        ("timers.py", "if when.get(key) == moment:", "if key in when:"),
    ),
    bug(0, "the heap of timers grows", ("timers.py", "if len(self._heap) > 2 * len(self._when) + SLACK:", "if False:")),
    bug(0, "timers go off early", ("timers.py", "if self.next() > now:", "if self.next() > now + 0.05:")),
    bug(
        0,
        "a tombstone does not outlive its news",
        (
            "tombstones.py",
            "return max(config.tombstone_time, 4 * window + 2 * config.heal_interval)",
            "return config.tombstone_time",
        ),
    ),
    bug(0, "what was kept by the name of the pruned stays", ("tombstones.py", "        self._forget(member_id)\n", "")),
    bug(0, "pruning tells nobody", ("tombstones.py", "        self._node.effects.append(Pruned(member_id))\n", "")),
    bug(0, "the dead take everybody's place", ("tombstones.py", "if oldest is None:", "if True:")),
    bug(
        0,
        "who returns is pruned when its tombstone would have been",
        (
            "tombstones.py",
            "self._buried.pop(record.member_id, None)\n        self._node.timers.cancel((Timer.PRUNE, record.member_id))",
            "self._buried.pop(record.member_id, None)",
        ),
    ),
    bug(
        0,
        "who dies again keeps the old tombstone's place",
        (
            "tombstones.py",
            "        self._buried.pop(record.member_id, None)\n        self._buried[record.member_id] = None",
            "        self._buried[record.member_id] = None",
        ),
    ),
    bug(
        0,
        "the suspicion of a member that dies is not dropped",
        ("transitions.py", "(_SUSPECT, _DEAD): (_ACQUIT, _BURY)", "(_SUSPECT, _DEAD): (_BURY,)"),
    ),
    bug(
        0,
        "the dead who return are not taken off the graveyard",
        ("transitions.py", "(_DEAD, _ALIVE): (_ADMIT,)", "(_DEAD, _ALIVE): ()"),
    ),
    bug(
        0,
        "the dead of whom somebody says SUSPECT have no timer",
        ("transitions.py", "(_DEAD, _SUSPECT): (_ADMIT, _ACCUSE)", "(_DEAD, _SUSPECT): (_ADMIT,)"),
    ),
    bug(0, "a leaver is not buried", ("transitions.py", "(_ALIVE, _LEFT): (_BURY,)", "(_ALIVE, _LEFT): ()")),
    bug(
        0,
        "what is older than the window is heard",
        (
            "window.py",
            "if ahead <= -SIZE or self._seen >> -ahead & 1:",
            "if ahead > -SIZE and self._seen >> -ahead & 1:",
        ),
    ),
    bug(
        0,
        "the window does not move",
        ("window.py", "            self._top = number\n            return True", "            return True"),
    ),
    bug(0, "what came out of order may come again", ("window.py", "        self._seen |= 1 << -ahead\n", "")),
    bug(
        0,
        "the window grows",
        ("window.py", "(self._seen << ahead | 1) & _MASK if ahead < SIZE else 1", "self._seen << ahead | 1"),
    ),
)
