"""Bugs of hearing, saying, comparing, joining and owning a name.

The rule: ``bugs.py``'s.
"""

from typing import Final

from .bugs import bug

__all__ = ["BUGS"]

BUGS: Final = (
    bug(0, "a newcomer announces itself once", ("contacts.py", "if not len(self._node.roster.schedule):", "if False:")),
    bug(
        0, "a member announces itself for ever", ("contacts.py", "if not len(self._node.roster.schedule):", "if True:")
    ),
    bug(0, "seeds are announced to at one pace", ("contacts.py", "self._pause * BACKOFF", "self._pause")),
    bug(0, "a member joins itself", ("contacts.py", "for seed in seeds if seed != own)", "for seed in seeds)")),
    bug(
        0,
        "any address is sent everybody",
        ("contacts.py", "if node.is_proved:\n            return True", "if True:\n            return True"),
    ),
    bug(
        0,
        "a newcomer's answer may come from anywhere",
        (
            "contacts.py",
            "if ack.target or self._introductions.get(ack.sequence) != node.source:",
            "if ack.target or ack.sequence not in self._introductions:",
        ),
    ),
    bug(
        0,
        "newcomers are waited for without a limit",
        ("contacts.py", "if len(self._introductions) >= MAX_INTRODUCTIONS:", "if False:"),
    ),
    bug(
        0,
        "leavers are tried as the dead are",
        ("contacts.py", "if record.status.state is not MemberState.DEAD:", "if False:"),
    ),
    bug(
        0,
        "the found are still tried",
        ("contacts.py", 'is back."""\n        self._lost.pop(member_id, None)', 'is back."""'),
    ),
    bug(0, "the lost are not told that they are", ("contacts.py", "first=[accusation], bare=True)", "bare=True)")),
    bug(
        0,
        "only the process that was lost may answer",
        ("contacts.py", "Ping(node.sequence(), member_id, 0)", "Ping(node.sequence(), member_id, lost.status.epoch)"),
    ),
    bug(0, "the lost are tried for ever", ("contacts.py", "[1].until <= node.now:", "[1].until <= 0:")),
    bug(
        0,
        "healing is tried once",
        ("contacts.py", "        node.timers.set(HEAL, node.now + node.config.heal_interval)\n", ""),
    ),
    bug(
        0,
        "a seed whose member has died is not tried",
        (
            "contacts.py",
            "return held is not None and held.status.state <= MemberState.SUSPECT",
            "return held is not None",
        ),
    ),
    bug(
        0,
        "the lost are kept without a limit",
        ("contacts.py", "if len(self._lost) >= node.config.max_members:", "if False:"),
    ),
    bug(0, "all seeds are announced to at once", ("contacts.py", "if len(silent) > MAX_ANNOUNCEMENTS:", "if False:")),
    bug(
        0,
        "seeds of whom a member is known are announced to",
        ("contacts.py", "if seed not in known and not self._is_live(seed)]", "]"),
    ),
    bug(
        0,
        "crashes of a day hide a partition",
        ("contacts.py", "among = everyone[-RECENT:] if self._attempts % 2 else everyone", "among = everyone"),
    ),
    bug(
        0,
        "who was lost long ago is not tried any more",
        ("contacts.py", "among = everyone[-RECENT:] if self._attempts % 2 else everyone", "among = everyone[-RECENT:]"),
    ),
    bug(
        0,
        "an accuser is not answered",
        ("identity.py", "if accuser not in {sender, node.member_id} and accuser in node.roster.members:", "if False:"),
    ),
    bug(
        0,
        "who brings an accusation is not answered",
        (
            "identity.py",
            "        self._outbid(status.incarnation)\n        node.owes_own = True\n",
            "        self._outbid(status.incarnation)\n",
        ),
    ),
    bug(0, "an objection costs no health", ("identity.py", "        node.health.refuted()\n", "")),
    bug(
        0,
        "another's goodbye in our name is an accusation like others",
        ("identity.py", " or status.state is MemberState.LEFT:", ":"),
    ),
    bug(
        0,
        "a clock that was set back makes an epoch that loses",
        ("identity.py", "epoch = max(node.wall_ms, at_least)", "epoch = node.wall_ms"),
    ),
    bug(0, "incarnations pass 2^31", ("identity.py", "if incarnation >= MAX_INCARNATION:", "if False:")),
    bug(
        0,
        "a rumour of a rival is proof",
        (
            "identity.py",
            "            self._rival = _Rival(address, epoch, digest, self._node.sequence())\n            self._ask(self._rival)",
            "            self._meet(_Rival(address, epoch, digest, 0))",
        ),
    ),
    bug(0, "a rival is asked once", ("identity.py", "if rival.tries < TRIES:", "if False:")),
    bug(
        0,
        "a rival's answer may come from anywhere",
        (
            "identity.py",
            "if source == rival.address and packet.epoch == rival.epoch:",
            "if packet.epoch == rival.epoch:",
        ),
    ),
    bug(
        0,
        "a rival's answer may be of any epoch",
        ("identity.py", "if source == rival.address and packet.epoch == rival.epoch:", "if source == rival.address:"),
    ),
    bug(
        0,
        "the younger of two rivals stops",
        ("identity.py", "if (rival.epoch, rival.digest) > (own", "if (rival.epoch, rival.digest) < (own"),
    ),
    bug(
        0,
        "two rivals of one epoch both stop",
        (
            "identity.py",
            "if (rival.epoch, rival.digest) > (own.status.epoch, own.meta.digest):",
            "if rival.epoch >= own.status.epoch:",
        ),
    ),
    bug(0, "who lost its name goes on", ("identity.py", "            node.stop()\n", "")),
    bug(
        0,
        "our own question is a rival's",
        ("identity.py", "            self._learn_aliases(rival.address, source)  # we", "            pass  # we"),
    ),
    bug(0, "aliases are kept without a limit", ("identity.py", "while len(self._aliases) > ALIASES:", "while False:")),
    bug(0, "the same metadata again is news", ("identity.py", "if ours.content != own.meta.content:", "if True:")),
    bug(
        0,
        "the same load again is news",
        ("identity.py", "if own.load is None or own.load.active != active:", "if True:"),
    ),
    bug(
        0,
        "ALIVE at an incarnation that we did not make stands",
        ("identity.py", "if claim.status.incarnation > own.status.incarnation:", "if False:"),
    ),
    bug(
        0,
        "metadata that we did not write stands",
        ("identity.py", "elif claim.meta is not None and claim.meta.key > own.meta.key:", "elif False:"),
    ),
    bug(
        0,
        "a goodbye waits for gossip",
        (
            "identity.py",
            "            node.send_to(member_id, None)\n        node.timers.set((Timer.LINGER",
            "            pass\n        node.timers.set((Timer.LINGER",
        ),
    ),
    bug(0, "a leaver goes on probing", ("identity.py", "        node.timers.clear()\n", "")),
    bug(
        0,
        "a leaver is never silent",
        ("identity.py", '        node.timers.set((Timer.LINGER, ""), node.now + node.config.leave_linger)\n', ""),
    ),
    bug(0, "the pruned are still gossiped about", ("node.py", "        self.news.discard(member_id)\n", "")),
    bug(
        0,
        "an address that never answered is sent anything",
        (
            "node.py",
            "min(self.config.max_packet_bytes, limit, self._allowance if answers else limit)",
            "min(self.config.max_packet_bytes, limit)",
        ),
    ),
    bug(
        0,
        "each answer has the whole allowance",
        ("node.py", "            self._allowance -= len(data)\n", "            pass\n"),
    ),
    bug(
        0,
        "a record that matters may overfill a packet",
        ("node.py", "if len(record) <= room and record not in parts:", "if record not in parts:"),
    ),
    bug(
        0,
        "a record that matters is in a packet twice",
        ("node.py", "if len(record) <= room and record not in parts:", "if len(record) <= room:"),
    ),
    bug(0, "nobody hears how many are left", ("node.py", "                self.on_count()\n", "")),
    bug(
        0,
        "news is told as often as in the smallest cluster",
        ("node.py", "                self._budget = self.config.retransmissions(self.roster.size)\n", ""),
    ),
    bug(
        0,
        "gossip does not wait for its interval",
        ("node.py", "max(self.now, self._gossiped + self.config.gossip_interval)", "self.now + 0.001"),
    ),
    bug(
        0,
        "gossip waits before it begins",
        (
            "node.py",
            "max(self.now, self._gossiped + self.config.gossip_interval)",
            "self.now + self.config.gossip_interval",
        ),
    ),
    bug(
        0,
        "gossip goes to everybody",
        ("node.py", "self.roster.schedule.sample(self.config.gossip_fanout)", "self.roster.schedule.sample(1000)"),
    ),
    bug(
        0,
        "who agrees once, for all",
        ("node.py", "if len(self._agreed) >= min(len(self.roster.schedule), self._budget):", "if self._agreed:"),
    ),
    bug(
        0,
        "who agreed on another view agrees on this one",
        ("node.py", "if self._agreed_on != self.roster.digest:", "if False:"),
    ),
    bug(
        0,
        "suspicions are cut short by agreement",
        ("node.py", "self.news.retain(self._is_suspect)", "self.news.retain(lambda _: False)"),
    ),
    bug(
        0,
        "metadata goes beside any state",
        ("node.py", "meta = record.meta if record.status.state is MemberState.ALIVE else None", "meta = record.meta"),
    ),
    bug(
        0,
        "a stranger is not told what is said of it",
        (
            "node.py",
            "if answers and (status := self.hearsay.about(receiver, self.now)) is not None:",
            "if answers and (status := None) is not None:",
        ),
    ),
    bug(
        0,
        "the load of the dead is told",
        ("node.py", "            self._loads.discard(member_id)\n", "            pass\n"),
    ),
    bug(
        0,
        "packets say what was held when the first was sent",
        (
            "node.py",
            "if self._header_of[0] is not own or self._header_of[1] != digest:",
            "if self._header_of[0] is not own:",
        ),
    ),
    bug(0, "packets all have one number", ("node.py", "        self._number += 1\n", "        self._number = 1\n")),
    bug(0, "news rides on what is held", ("node.py", "if not (bare or type(kind) is SyncRecords):", "if not bare:")),
    bug(
        0,
        "news goes to those who may not be there",
        ("node.py", "if not (bare or type(kind) is SyncRecords):", "if type(kind) is not SyncRecords:"),
    ),
    bug(
        0,
        "proved addresses are kept without a limit",
        ("node.py", "if len(self._proved) > self.config.max_members:", "if False:"),
    ),
    bug(
        0,
        "metadata of the same incarnation is not gossiped on",
        ("node.py", "elif after.meta is not before.meta and status.state is MemberState.ALIVE:", "elif False:"),
    ),
    bug(
        0,
        "a change is not reported",
        ("node.py", "        self.effects.append(MemberChanged(member_id, before, after))\n", ""),
    ),
    bug(
        0,
        "a leaver does not say so to those who ask",
        ("node.py", "if self.left or (answers and self.owes_own):", "if answers and self.owes_own:"),
    ),
    bug(
        0,
        "an answer that does not fit is sent without what was asked for",
        ("node.py", "if len(parts) == 1 and type(kind) is SyncRecords:", "if False:"),
    ),
    bug(
        0, "a packet from tomorrow is heard", ("reception.py", "elif packet.epoch > self._latest_epoch:", "elif False:")
    ),
    bug(0, "a record from tomorrow is believed", ("reception.py", "if newest > latest:", "if False:")),
    bug(
        0,
        "what is meant for another is answered",
        ("reception.py", "if type(packet.kind) is Ping and packet.kind.target != node.member_id:", "if False:"),
    ),
    bug(
        0,
        "a leaver hears news",
        ("reception.py", "elif not node.left:\n            node.counts", "elif True:\n            node.counts"),
    ),
    bug(0, "a stopped member answers", ("reception.py", "        if node.stopped:\n            return []\n", "")),
    bug(
        0,
        "a later process without an address is believed",
        (
            "reception.py",
            "if news.state is MemberState.ALIVE and record.meta is None and news.epoch > held.meta.epoch:",
            "if False:",
        ),
    ),
    bug(
        0,
        "a death that another holds is believed unasked",
        ("reception.py", "and compared and may_live:", "and False:"),
    ),
    bug(0, "a death that is news is asked about", ("reception.py", "and compared and may_live:", "and may_live:")),
    bug(
        0,
        "what is said of a stranger does not count when it comes",
        ("reception.py", "if said is not None and said > status and said.state > MemberState.SUSPECT:", "if False:"),
    ),
    bug(
        0,
        "a stranger's suspicion is forgotten when it comes",
        (
            "reception.py",
            "if said is not None and said > status:\n            self._accusations",
            "if False:\n            self._accusations",
        ),
    ),
    bug(
        0,
        "a stranger that somebody holds is not told that it is said to be dead",
        ("reception.py", "if compared and sender != member_id and said.state is MemberState.DEAD:", "if False:"),
    ),
    bug(
        0, "members are taken in without a limit", ("reception.py", "if not self._tombstones.make_room():", "if False:")
    ),
    bug(
        0,
        "strangers that are held elsewhere are news",
        ("reception.py", "node.adopt(record, spread=not compared)", "node.adopt(record)"),
    ),
    bug(
        0,
        "a process that never spoke has been heard from",
        ("reception.py", "held is not None and window.epoch == held.status.epoch", "held is not None"),
    ),
    bug(
        0,
        "a process of the past is not told",
        (
            "reception.py",
            "            else:\n                node.owes_word = not node.config.plain\n            return",
            "            return",
        ),
    ),
    bug(
        0,
        "an unknown sender is asked again in answer to its answer",
        (
            "reception.py",
            "if type(packet.kind) not in {SyncRecords, SyncWant}:",
            "if type(packet.kind) is not SyncWant:",
        ),
    ),
    bug(
        0,
        "a question is answered with a question",
        (
            "reception.py",
            "if type(packet.kind) not in {SyncRecords, SyncWant}:",
            "if type(packet.kind) is not SyncRecords:",
        ),
    ),
    bug(
        0,
        "a stranger whose answer does not fit is left alone",
        (
            "reception.py",
            "                    self._contacts.prove(packet)\n            case",
            "                    pass\n            case",
        ),
    ),
    bug(
        0,
        "an unknown sender is not asked who it is",
        (
            "reception.py",
            "            self._node.answer(packet.sender, SyncWant((packet.sender,)))",
            "            pass",
        ),
    ),
    bug(
        0,
        "stale records in a comparison stand",
        ("reception.py", "            self._correct(packet)", "            pass"),
    ),
    bug(
        0,
        "who pings an earlier process of ours is not told",
        ("reception.py", "self._node.owes_own |= kind.epoch not in {0, self._node.own.status.epoch}", "pass"),
    ),
    bug(
        0,
        "views are compared before the packet's news is heard",
        (
            "reception.py",
            "        if packet.records:\n            self._hear_records(packet)\n        self._hear_sender(packet)",
            "        self._reconciler.note(packet.sender, packet.digest)\n        self._hear_sender(packet)\n        self._hear_records(packet)",
        ),
    ),
    bug(0, "what is owed is not said", ("reception.py", "        self._node.settle(packet.sender)\n", "")),
    bug(
        0,
        "the window of the pruned is kept",
        ("reception.py", "        self._windows.pop(member_id, None)", "        pass"),
    ),
    bug(
        0,
        "a newcomer that has answered is not sent anybody",
        (
            "reception.py",
            "                if self._contacts.on_ack(kind):\n                    self._reconciler.introduce(packet.sender)",
            "                if self._contacts.on_ack(kind):\n                    pass",
        ),
    ),
    bug(
        0,
        "a member's own load is not taken from its packets",
        ("reception.py", "if packet.load is not None and (held.load is None", "if False and (held.load is None"),
    ),
    bug(
        0, "a seed is not known by where it speaks from", ("reception.py", "        self._contacts.heard(sender)\n", "")
    ),
    bug(
        0,
        "a suspect of whom bad news is held is not told",
        ("reception.py", "if held.status.state is not MemberState.ALIVE and not _says_goodbye(packet):", "if False:"),
    ),
    bug(0, "a leaver is told that it has left", ("reception.py", "and not _says_goodbye(packet):", "and True:")),
    bug(
        0,
        "a later suspicion's subject is not asked who it is",
        (
            "reception.py",
            "            self._ask_for(packet)  # a suspicion of this",
            "            pass  # a suspicion of this",
        ),
    ),
    bug(
        0,
        "a namesake from tomorrow is believed",
        (
            "reception.py",
            "        elif packet.epoch > self._latest_epoch:\n            # Before our own name is looked at",
            "        elif packet.epoch > self._latest_epoch and packet.sender != node.member_id:\n            # Before our own name is looked at",
        ),
    ),
    bug(
        0,
        "views that differ are never compared",
        ("reconciler.py", "if self._different >= self._equal and node.now >= self._not_before:", "if False:"),
    ),
    bug(
        0,
        "one that differs is compared with, whatever the others say",
        ("reconciler.py", "if self._different >= self._equal and node.now", "if node.now"),
    ),
    bug(0, "two that cannot agree argue all day", ("reconciler.py", "and node.now >= self._not_before:", "and True:")),
    bug(
        0,
        "views that differ for a moment are compared",
        ("reconciler.py", "elif node.now - self._since >= node.config.sync_after:", "elif True:"),
    ),
    bug(
        0,
        "an address that never answered is compared with",
        ("reconciler.py", "if not node.is_proved or node.source is None:", "if node.source is None:"),
    ),
    bug(
        0,
        "there is no safety net",
        ("reconciler.py", "        if self._peer is not None:\n            self._compare(self._peer)", "        pass"),
    ),
    bug(0, "the safety net compares views that agree", ("reconciler.py", "            self._peer = None\n", "")),
    bug(0, "a burst has no limit", ("reconciler.py", "for chunk in packets[:BURST]", "for chunk in packets")),
    bug(
        0,
        "an offer always begins with the first",
        ("reconciler.py", "node.rng.randrange(len(all_offers)) if len(all_offers) > BURST else 0", "0"),
    ),
    bug(
        0,
        "what is later here is not sent",
        ("reconciler.py", "if version.status < status or version.meta < meta:", "if False:"),
    ),
    bug(
        0,
        "what is later there is not asked for",
        ("reconciler.py", "if (version.status > status or version.meta > meta) and", "if False and"),
    ),
    bug(
        0,
        "metadata is not compared",
        ("reconciler.py", "if (version.status > status or version.meta > meta) and", "if version.status > status and"),
        ("reconciler.py", "if version.status < status or version.meta < meta:", "if version.status < status:"),
    ),
    bug(
        0,
        "who is missing in an offer is not sent",
        (
            "reconciler.py",
            "        later += [one for one in node.roster.live_between(offer.after, offer.until) if one not in offered]\n",
            "",
        ),
    ),
    bug(
        0,
        "strangers in an offer are not asked for",
        (
            "reconciler.py",
            "                    wanted.append(member_id)\n                continue",
            "                    pass\n                continue",
        ),
    ),
    bug(
        0,
        "a leaver in an offer is asked for",
        (
            "reconciler.py",
            "version.status[0] <= latest_epoch and self._is_news_of_a_stranger(version)",
            "version.status[0] <= latest_epoch",
        ),
    ),
    bug(
        0,
        "a stranger from tomorrow is asked for",
        (
            "reconciler.py",
            "version.status[0] <= latest_epoch and self._is_news_of_a_stranger(version)",
            "self._is_news_of_a_stranger(version)",
        ),
    ),
    bug(
        0,
        "a suspect is sent without its metadata",
        (
            "reconciler.py",
            "return [encode_record(record.member_id, alive, meta), encode_record(record.member_id, status)]",
            "return [encode_record(record.member_id, status)]",
        ),
    ),
    bug(
        0,
        "seeds all introduce the same first",
        ("reconciler.py", "first = node.rng.randrange(len(live))\n", "first = 0\n"),
    ),
)
