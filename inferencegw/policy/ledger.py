"""What has been delivered of one generation: the count, the digest, and which token is next.

The rule: token ``i`` goes out only if it is the next one. A repeat (``i`` is behind) is dropped; a gap (``i`` is ahead)
or a token past the end is the replica's fault, for nothing after it can be trusted to be in its place; and so is a last
one that does not say that it is final. So the client gets ``first_index``, ``first_index + 1``, ... each once, whatever
replicas send.

Admitting and delivering are two steps, because a token that was admitted may still not reach the client: it may be
waiting for the client's window when the deadline passes. ``delivered`` and ``digest`` speak of what was sent, and
:meth:`TokenLedger.deliver` is called when that is known.

The digest is CRC-32 over the UTF-8 bytes of the texts: every language has it, and it is one C call per token.
"""

from zlib import crc32

from inferencegw.errors import InferenceGatewayError

__all__ = ["TokenFault", "TokenLedger"]


class TokenFault(InferenceGatewayError):
    """The replica's: its token cannot be the next one. The ledger is as it was before that token."""


class TokenLedger:
    """The account of one call, over all its attempts.

    Attributes:
        first_index: the index of the first token.
        next_index: the index of the next token to admit.
        delivered: tokens delivered in this call.
        digest: CRC-32 of their texts.
        finished: whether the final token was admitted.
    """

    __slots__ = ("_end", "delivered", "digest", "finished", "first_index", "next_index")

    def __init__(self, first_index: int, max_tokens: int) -> None:
        self.first_index = first_index
        self._end = max_tokens
        self.next_index = first_index
        self.delivered = 0
        self.digest = 0
        self.finished = False

    def admit(self, index: int, *, is_final: bool) -> bool:
        """Whether token ``index`` goes out now; False means that it is a repeat, to be dropped.

        Raises:
            TokenFault: the token leaves a gap, or lies past the final one or past ``max_tokens``; or it is the last of
                ``max_tokens`` and not final: sent so, it would leave nothing to ask another replica for.
        """
        if index == self.next_index and index < self._end and not self.finished:
            if index == self._end - 1 and not is_final:
                raise TokenFault(f"token {index} is the last that was asked for, and is not final")
            self.next_index = index + 1
            self.finished = is_final
            return True
        if index < self.next_index:
            return False
        if self.finished or index >= self._end:
            raise TokenFault(f"token {index} came after the last one, {self.next_index - 1}")
        raise TokenFault(f"token {index} came where {self.next_index} was next")

    def deliver(self, text: str) -> None:
        """The oldest admitted token that was not delivered yet, which reads ``text``, was sent."""
        self.delivered += 1
        self.digest = crc32(text.encode(), self.digest)

    @property
    def complete(self) -> bool:
        """Whether the final token, and so every token, was delivered."""
        return self.finished and self.resume_index == self.next_index

    @property
    def resume_index(self) -> int:
        """Where a client that has what was delivered would resume."""
        return self.first_index + self.delivered
