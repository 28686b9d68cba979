"""The client: a gateway, or several of which one will do, and generations there, under trio or asyncio.

The rule: a client of one gateway tells its caller how a call there has ended. A client of several gives every call a
name and goes on, at its index, at another gateway when one of them is lost or has no more to say; nobody sees that but
who asks for :attr:`~inferencegw.client.Transcript.gateway`. What is tried how often is decided in
:mod:`~inferencegw.client.moves`, which gateway is next in :mod:`~inferencegw.client.gateways`.
"""

import math
import random
import ssl
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from inferencegw.client.gateways import Gateways
from inferencegw.client.generation import AsyncGeneration, InferCall
from inferencegw.client.moves import MovePlan
from inferencegw.client.token import Hedge, infer_request
from inferencegw.config import RpcLimits
from inferencegw.rpc.credentials import bearer

__all__ = ["AsyncClient"]


class AsyncClient:
    """A gateway's client: a block to enter, which connects, and in it any number of generations at once.

    Args:
        addresses: ``host:port`` of a gateway, or of several of the same cluster.
        client_id: names the caller to the gateway; at most 128 bytes.
        key: what `trio-gw keys` has made, for gateways that ask for one. Without TLS it goes over the wire as it is.
        ssl_context: from :func:`inferencegw.rpc.tls.client_context`; plain text without.
        limits: what a gateway may make us hold, send or wait for.
        rng: where several are given, draws which is the first, jitter, and names for calls.

    Raises:
        ConfigError: an address is none, or is given twice; or the key cannot be one.
        ConnectionLost: on entering, no gateway could be reached.
    """

    def __init__(
        self,
        *addresses: str,
        client_id: str = "",
        key: str = "",
        ssl_context: ssl.SSLContext | None = None,
        limits: RpcLimits = RpcLimits(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - nothing here is a secret
        self._gateways = Gateways(addresses, self._rng, ssl_context=ssl_context, limits=limits, metadata=bearer(key))
        self._client_id = client_id
        self._block: AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> Self:
        self._block = self._gateways.open()
        await self._block.__aenter__()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        assert self._block is not None
        return self._block.__aexit__(kind, error, traceback)

    def generate(  # noqa: PLR0913 - one for each field of the request; all but the prompt are named
        self,
        prompt: str,
        *,
        max_tokens: int = 16,
        model: str = "",
        hedge: Hedge | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        affinity_key: str = "",
        request_id: str = "",
        resume_offset: int = 0,
        resume_text: str = "",
        timeout: float = math.inf,
    ) -> AsyncGeneration:
        """One generation: enter it, iterate over its tokens; leaving it early cancels it everywhere.

        Args:
            prompt: what to continue; 1 byte to 1 MiB in UTF-8.
            max_tokens: length of the whole generation, what is resumed included; 1 to 32,768.
            model: which model; may be empty where the gateway serves exactly one.
            hedge: whether two replicas may race to the first token; the gateway's default if None.
            temperature: 0 always takes the likeliest token, up to 2; the model's default if None.
            top_p: draw from the likeliest tokens that together have this probability; the model's default if None.
            seed: equal requests with equal seeds give equal tokens.
            stop: end the generation where one of these appears.
            affinity_key: requests with equal keys prefer the same replica; the beginning of the prompt if empty.
            request_id: a name for logs, and for a generation that is to be taken up again; if empty, a client of
                several gateways draws one, and else the gateway does.
            resume_offset: ``next_index`` of a generation that is to be continued.
            resume_text: the text of the tokens before ``resume_offset``.
            timeout: seconds for all of it, connecting included; told to the gateway and enforced here.

        Raises:
            ConfigError: a value that no request can carry.
        """
        several = len(self._gateways.addresses) > 1
        request = infer_request(
            {
                "request_id": request_id or (f"{self._rng.getrandbits(128):032x}" if several else ""),
                "client_id": self._client_id,
                "model": model,
                "prompt": prompt,
                "max_tokens": max_tokens,
                "affinity_key": affinity_key,
                "resume_offset": resume_offset,
                "resume_text": resume_text,
            },
            {"temperature": temperature, "top_p": top_p, "seed": seed, "stop": stop},
            hedge=hedge,
        )
        plan = MovePlan(len(self._gateways.addresses), self._rng)
        return AsyncGeneration(InferCall(self._gateways, plan, request, timeout))
