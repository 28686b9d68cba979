"""Who is in the cluster, and who of them lives: SWIM with Lifeguard, as one pure state machine.

The rule: pure. Nothing here knows trio, sockets, clocks, logging or global randomness. Datagrams and the time go in,
effects come out, and :meth:`SwimProtocol.next_deadline` names the one moment at which the machine wants to be woken.
The shell that owns the socket and the clock is :mod:`inferencegw.membership`.

The papers: SWIM (Das, Gupta, Motivala, DSN 2002) and Lifeguard (Dadgar et al., arXiv 1707.00788). What is ours beyond
them, and why, is told in the documentation's chapter on the protocol.
"""
