"""Decisions about requests: which replica, which token, how long to wait.

The rule: pure. Nothing here knows trio, sockets, clocks, logging or global randomness; ``now`` and ``rng`` are
arguments, and what is returned is a decision with its reason. The shell that acts on it is :mod:`inferencegw.gateway`.
"""
