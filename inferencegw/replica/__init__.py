"""The simulated replica: an LLM server without the LLM, for tests, demonstrations and capacity questions.

The rule: what it generates, how long that takes and what goes wrong on the way are decided by pure code (``tokens``,
``prefill``, ``slots``, ``faults``, ``generation``, ``engine``, ``request``) from its configuration, the request and
seeds alone. The shells (``control``, ``servicer``, ``app``) only sleep, send and end. A stream that was cut off and
continued elsewhere can therefore be compared, token for token, with the unbroken one.
"""

from inferencegw.replica.app import Replica, run_replica
from inferencegw.replica.faults import FaultPlan

__all__ = ["FaultPlan", "Replica", "run_replica"]
