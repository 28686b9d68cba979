"""The gateway: finds each call a replica and delivers tokens 0 to n-1, in order, each once, or says how far it got.

A shell around :mod:`inferencegw.policy`, on :mod:`inferencegw.rpc`. Its tasks are in :mod:`inferencegw.gateway.app`.
"""

from inferencegw.gateway.app import Gateway, run_gateway

__all__ = ["Gateway", "run_gateway"]
