"""Signs, where it is asked to, that what a city accepted has a final state in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from citychain.acknowledgement import sign
from citychain.crypto.signatures import SigningKey
from citychain.errors import InvalidRequest
from citychain.genesis import Genesis
from citychain.handler import Received, Refusal
from citychain.ports import Clock, Compute

__all__ = ["Acknowledger"]


class Acknowledger:
    """Signs for one city.

    Args:
        operator: The server's key.
        within_ms: How long the city gives itself.
        head_time_ms: Time of the latest round.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        operator: SigningKey,
        within_ms: int,
        head_time_ms: Callable[[], int],
        compute: Compute,
        clock: Clock,
    ) -> None:
        self._genesis = genesis
        self._operator = operator
        self._may_sign = operator.public_key.hex() == genesis.operator
        self._within_ms = within_ms
        self._head_time_ms = head_time_ms
        self._compute = compute
        self._clock = clock

    def check(self) -> None:
        """Before anything is stored for a caller who wants it signed.

        Raises:
            InvalidRequest: the server has another key than the city's operator.
        """
        if not self._may_sign:
            raise InvalidRequest(
                "acknowledge", "this server has not the operator's key of the city: submit without"
            )

    async def signed(self, results: Sequence[Received | Refusal]) -> list[Received | Refusal]:
        """The results of one request, those accepted with a promise."""
        accepted = [result.tx_id for result in results if isinstance(result, Received)]
        if not accepted:
            return list(results)
        now = self._clock.time_ms()
        # Rounds never go back in time, also where the clock does: the next is of no earlier time.
        final_by = max(now, self._head_time_ms()) + self._within_ms
        promises = iter(
            await self._compute(sign, self._operator, self._genesis.id, accepted, now, final_by)
        )
        return [
            result._replace(promise=next(promises)) if isinstance(result, Received) else result
            for result in results
        ]
