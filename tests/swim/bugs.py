"""The classic bugs of SWIM, as edits of the core's text, for the mutation check in ``mutations.py``.

The rule: a bug is a piece of the core's text, which stands there exactly once, and what a hurried hand might have
written instead. Its name says what is wrong then. Those that the design marks have the number of its test. What changes
nothing that anybody can see is no bug, and not here: such a piece of text should go.
"""

from typing import Final

import attrs

__all__ = ["CLASSIC", "Mutation", "bug"]


@attrs.frozen
class Mutation:
    """One bug.

    Attributes:
        marked: the number of the test that the design marks for it; 0 for bugs that the design does not name.
        name: what is wrong then.
        edits: files of ``inferencegw/swim``, each with what stands there, exactly once, and what is planted instead.
    """

    marked: int
    name: str
    edits: tuple[tuple[str, str, str], ...]


def bug(marked: int, name: str, *edits: tuple[str, str, str]) -> Mutation:
    """A line of the table."""
    return Mutation(marked, name, edits)


CLASSIC: Final = (
    # -- marked in the design ----------------------------------------------------------------------------------------
    bug(
        3,
        "the state outranks the incarnation, so that an old DEAD beats a newer ALIVE",
        (
            "member.py",
            "self.incarnation, int(self.state))",
            "int(self.state), self.incarnation)",
        ),
    ),
    bug(
        3,
        "the last word wins, so that any ALIVE revives the dead",
        ("member.py", "status = b.status if b.status.key > a.status.key else a.status", "status = b.status"),
    ),
    bug(
        4,
        "a suspicion of a later incarnation leaves the timer of the earlier one as it is",
        ("transitions.py", "(_SUSPECT, _SUSPECT): (_ACCUSE,)", "(_SUSPECT, _SUSPECT): ()"),
    ),
    bug(
        4,
        "who accuses a later incarnation confirms the suspicion of the earlier one",
        (
            "suspicion.py",
            "return (status.epoch, status.incarnation) == (self.epoch, self.incarnation)",
            "return status.epoch == self.epoch",
        ),
        ("transitions.py", "(_SUSPECT, _SUSPECT): (_ACCUSE,)", "(_SUSPECT, _SUSPECT): ()"),
    ),
    bug(
        5,
        "a suspicion is not dropped with its process, and kills whoever has the name by then",
        ("transitions.py", "(_SUSPECT, _ALIVE): (_ACQUIT,)", "(_SUSPECT, _ALIVE): ()"),
        ("accusations.py", "from collections.abc", "import attrs\nfrom collections.abc"),
        (
            "accusations.py",
            "Status(running.epoch, running.incarnation, MemberState.DEAD)",
            "attrs.evolve(node.roster.members[member_id].status, state=MemberState.DEAD, accuser='')",
        ),
    ),
    bug(
        14,
        "any ack answers the probe that runs, whatever its sequence",
        ("prober.py", "probe = self._asked.get(ack.sequence)", "probe = self._asked.get(ack.sequence, self._current)"),
    ),
    bug(
        14,
        "an ack counts from whomever it comes",
        (
            "probe.py",
            "return target == self.target and (sender == target or sender in self.helpers)",
            "return target == self.target",
        ),
    ),
    bug(
        14,
        "an ack counts whomever it is about",
        (
            "probe.py",
            "return target == self.target and (sender == target or sender in self.helpers)",
            "return sender == self.target or sender in self.helpers",
        ),
    ),
    bug(
        14,
        "an ack of a later process answers for the one that was asked",
        ("prober.py", "if epoch == probe.epoch and not probe.answered:", "if not probe.answered:"),
    ),
    bug(
        15,
        "helpers are drawn before it is asked whether they can help",
        (
            "probe.py",
            "everyone = [one for one in self._members if eligible(one)]",
            "everyone = [one for one in self.sample(count) if eligible(one)]",
        ),
    ),
    # -- others ------------------------------------------------------------------------------------------------------
    bug(
        0,
        "LEFT is as refutable as DEAD",
        (
            "member.py",
            "(self.epoch, self.state is MemberState.LEFT,",
            "(self.epoch, False,",
        ),
    ),
    bug(
        0,
        "a suspicion loses the metadata",
        ("member.py", "meta, load = _later_meta(a.meta, b.meta), ", "meta, load = b.meta, "),
    ),
    bug(
        0,
        "an objection only equals the accusation",
        ("identity.py", "        self._outbid(status.incarnation)\n", "        self._outbid(status.incarnation - 1)\n"),
    ),
    bug(
        0,
        "a stale accusation is objected to as well",
        ("identity.py", "elif status.incarnation < own.status.incarnation:", "elif False:"),
    ),
    bug(0, "the first accuser may confirm itself", ("suspicion.py", "accuser == self._first or ", "")),
    bug(0, "an accuser counts each time it repeats itself", ("suspicion.py", "accuser in self._others or ", "")),
    bug(
        0,
        "the dead are expected to confirm",
        (
            "accusations.py",
            "if node.config.plain else node.roster.alive_others",
            "if True else node.roster.alive_others",
        ),
    ),
    bug(
        0, "the health score has no ceiling", ("health.py", "min(MAX_SCORE, self.score + times)", "self.score + times")
    ),
    bug(
        0,
        "nobody is given a last chance",
        ("accusations.py", "elif running.gasping or node.config.plain:", "elif True:"),
    ),
    bug(0, "a late timer is believed", ("protocol.py", "stalled = not node.config.plain and", "stalled = False and")),
    bug(0, "the digest has the dead in it", ("sync.py", "record.status.state > MemberState.SUSPECT or ", "")),
    bug(0, "news is passed on for ever", ("dissemination.py", "item.sends += 1", "item.sends += 0")),
    bug(0, "the suspect is not told", ("node.py", "elif held.status.state is not MemberState.ALIVE or", "elif")),
    bug(
        0,
        "bad news makes strangers members",
        (
            "reception.py",
            "if status.state is not MemberState.ALIVE:\n            node.hearsay",
            "if False:\n            node.hearsay",
        ),
    ),
    bug(0, "a copy of a packet is heard again", ("reception.py", "window.accept(packet.number)", "True")),
    bug(0, "a clock that is a year ahead is believed", ("reception.py", "24 * 3600 * 1000", "365 * 24 * 3600 * 1000")),
    bug(
        0,
        "a round goes on without the newcomers' turns in mind",
        ("probe.py", "self._next += 1  # its turn", "pass  # its turn"),
    ),
)
