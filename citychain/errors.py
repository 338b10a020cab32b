"""Every error that citychain raises on purpose.

::

    CitychainError
    ├── ConfigurationError         a setting is wrong: names the place and the fix
    ├── PluginError                a plugin is wrong: names the plugin and the fix
    ├── RequestError               the caller's request cannot be answered
    │   ├── InvalidRequest         a field is malformed
    │   ├── TransactionRefused     a transaction was not accepted
    │   ├── NotFound               the city, transaction, node or round is unknown
    │   │   └── Pruned             what transactions said is in the archive alone
    │   ├── NotSupported           the city's parts do not offer this
    │   ├── NotAuthenticated       no valid token says who calls
    │   ├── NotAllowed             who calls lacks the role
    │   └── Overloaded             try again later
    ├── CityUnavailable            the city could not be opened or is closing
    │   └── NotLeading             only the server that leads the city can do this
    ├── ServerUnavailable          no server answers, or it is stopping
    ├── ServerError                the server failed: its log explains the error id
    ├── StorageError               a storage backend could not do what it promised
    │   ├── RoundTaken             another sequencer committed this round
    │   ├── LeaseLost              another sequencer holds the city
    │   ├── NameTaken              the storage has another city of this name
    │   ├── DirectoryInUse         another process holds the data directory
    │   ├── StoreFull              a fragment store has no room
    │   ├── StoreUnavailable       a fragment store does not answer
    │   ├── FragmentMissing        a fragment store has no such fragment
    │   ├── NotOwned               a fragment is another owner's
    │   └── NotRestorable          the stores have too few good chunks of an object
    ├── ObjectChanged              a file was written to while it was stored
    ├── MoveFailed                 a city was not moved: it lives where it lived
    ├── ConsensusError             a round could not be sealed or approved
    └── VerificationError          something claimed does not hold
        ├── InvalidSignature
        ├── InvalidProof           a Merkle proof
        ├── InvalidPoh             a proof-of-history entry
        ├── InvalidReceipt         names the check that failed
        ├── InvalidAcknowledgement likewise
        └── InvalidRound           names the round and the check that failed

Errors carry data as attributes; `citychain.rpc.status` is the one table that
turns them into gRPC statuses.
"""

from __future__ import annotations

from datetime import timedelta

__all__ = [
    "CityUnavailable",
    "CitychainError",
    "ConfigurationError",
    "ConsensusError",
    "DirectoryInUse",
    "FragmentMissing",
    "InvalidAcknowledgement",
    "InvalidPoh",
    "InvalidProof",
    "InvalidReceipt",
    "InvalidRequest",
    "InvalidRound",
    "InvalidSignature",
    "LeaseLost",
    "MoveFailed",
    "NameTaken",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "NotLeading",
    "NotOwned",
    "NotRestorable",
    "NotSupported",
    "ObjectChanged",
    "Overloaded",
    "PluginError",
    "Pruned",
    "RequestError",
    "RoundTaken",
    "ServerError",
    "ServerUnavailable",
    "StorageError",
    "StoreFull",
    "StoreUnavailable",
    "TransactionRefused",
    "VerificationError",
]


class CitychainError(Exception):
    """Root of all errors below."""


class ConfigurationError(CitychainError):
    """Raised when a setting is missing, unknown or wrong."""


class PluginError(CitychainError):
    """Raised when a plugin cannot be used; the message names it and what to do."""


class RequestError(CitychainError):
    """Root of the errors that the caller can mend."""

    reason = "INVALID_REQUEST"
    """Stable code for programs."""


class InvalidRequest(RequestError):
    """Raised when a field of a request is malformed."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        """Path of the field, such as ``transaction.body.nonce``."""
        self.detail = detail


class TransactionRefused(RequestError):
    """Raised when a transaction was not accepted: nothing of it is stored."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(f"{code}: {field} {detail}" if field else f"{code}: {detail}")
        self.reason = code
        """``BAD_SIGNATURE``, ``UNKNOWN_KEY``, ``EXPIRED``, ..."""
        self.field = field
        """Path of the field, such as ``body.writes[2].object``; may be empty."""
        self.detail = detail


class NotFound(RequestError):
    """Raised when what was asked for does not exist."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str, suggestions: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {', '.join(suggestions)}?" if suggestions else ""
        super().__init__(f"no {kind} {name!r}{hint}")
        self.kind = kind
        """``city``, ``transaction``, ``node``, ``round``, ..."""
        self.name = name
        self.suggestions = suggestions
        """The nearest names that do exist."""


class Pruned(NotFound):
    """Raised when transactions of a round were pruned, and the archive does not give them here."""

    reason = "PRUNED"

    def __init__(self, round: int, detail: str) -> None:
        super().__init__("transactions of round", str(round))
        self.args = (f"the transactions of round {round} were pruned: {detail}",)
        self.round = round
        self.detail = detail
        """Why they cannot be had from here."""


class NotSupported(RequestError):
    """Raised when a city's parts do not offer what was asked of it."""

    reason = "NOT_SUPPORTED"


class NotAuthenticated(RequestError):
    """Raised when a call needs a token, and has none that is valid."""

    reason = "NOT_AUTHENTICATED"


class NotAllowed(RequestError):
    """Raised when who calls does not have the role that the call needs."""

    reason = "NOT_ALLOWED"


class Overloaded(RequestError):
    """Raised when accepting more would exceed a bound: back off and try again."""

    reason = "OVERLOADED"

    def __init__(self, detail: str, retry_after: timedelta, reason: str = "OVERLOADED") -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.reason = reason
        """``OVERLOADED`` for the whole city, ``AUTHOR_QUOTA`` for one author."""


class CityUnavailable(CitychainError):
    """Raised when a city exists and cannot be used now; the log explains the error id."""

    def __init__(self, city: str, error_id: str, retry_after: timedelta) -> None:
        super().__init__(f"city {city} is unavailable (error id {error_id})")
        self.city = city
        self.error_id = error_id
        self.retry_after = retry_after


class NotLeading(CityUnavailable):
    """Raised where several servers share a city, by one that does not lead it, for what only the
    leading one can do: try the others, or again."""

    def __init__(self, city: str, retry_after: timedelta) -> None:
        super().__init__(city, "", retry_after)

    def __str__(self) -> str:
        return f"another server leads city {self.city}: send it there"


class ServerUnavailable(CitychainError):
    """Raised when no server answers, or the one that does is stopping: try again, or another."""


class ServerError(CitychainError):
    """Raised by the client when a server failed; that server's log explains the error id."""

    def __init__(self, detail: str, error_id: str) -> None:
        super().__init__(detail)
        self.error_id = error_id
        """Empty where the server gave none."""


class StorageError(CitychainError):
    """Raised when a storage backend failed; nothing of the call may be assumed stored."""


class RoundTaken(StorageError):
    """Raised by a commit when the round exists already: reload and judge again."""

    def __init__(self, round: int) -> None:
        super().__init__(f"round {round} is already committed")
        self.round = round


class LeaseLost(StorageError):
    """Raised by a commit whose lease epoch is not the newest any more."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"lease epoch {epoch} is over")
        self.epoch = epoch


class NameTaken(StorageError):
    """Raised where a storage has another city of the same network and name."""

    def __init__(self, name: str, genesis_file: bytes) -> None:
        super().__init__(f"the storage has another city {name}, with another genesis")
        self.name = name
        """Network and city, as `citychain.genesis.city_name` gives them."""
        self.genesis_file = genesis_file
        """Of the city that is there."""


class DirectoryInUse(StorageError):
    """Raised when another process has the data directory open."""

    def __init__(self, directory: str, process: str, fix: str) -> None:
        super().__init__(f"{directory} is in use by process {process}: {fix}")
        self.directory = directory
        self.process = process
        """Its number, or ``unknown``."""


class StoreFull(StorageError):
    """Raised when a fragment does not fit into a store: make room, or put it elsewhere."""


class StoreUnavailable(StorageError):
    """Raised when a fragment store does not answer or cannot be used: try again, or another."""


class FragmentMissing(StorageError):
    """Raised when a store has no such fragment, or not so much of it."""


class NotOwned(StorageError):
    """Raised where a fragment is another owner's: only who stored it may delete it. What is put
    under the same key all the same is kept beside it, and read by its own owner."""


class NotRestorable(StorageError):
    """Raised when too few good chunks of an object are found; what was restored of it is kept."""

    def __init__(self, object_id: bytes, detail: str, *, is_lost: bool = False) -> None:
        super().__init__(f"object {object_id.hex()} cannot be restored: {detail}")
        self.is_lost = is_lost
        """Whether every store answered: to try again is no use."""
        self.object_id = object_id
        self.detail = detail
        """What was found where."""


class ObjectChanged(CitychainError):
    """Raised when a file is not what it was while it is stored: nothing of it is stored."""


class MoveFailed(CitychainError):
    """Raised when a city could not be moved to another storage: it lives where it lived."""


class ConsensusError(CitychainError):
    """Raised when a consensus step cannot seal or approve a round; it is tried again."""


class VerificationError(CitychainError):
    """Root of what verification raises; verification never returns a bool."""


class InvalidSignature(VerificationError):
    """Raised when a signature does not hold."""


class InvalidProof(VerificationError):
    """Raised when a Merkle inclusion or consistency proof does not hold."""


class InvalidPoh(VerificationError):
    """Raised when a proof-of-history entry's hash is not what its hashing gives."""


class InvalidReceipt(VerificationError):
    """Raised when a receipt does not prove what it claims."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check
        """The check that failed: ``genesis``, ``tx_id``, ``signature``, ``node``, ..."""
        self.detail = detail


class InvalidAcknowledgement(VerificationError):
    """Raised when a signed acknowledgement does not promise what it claims."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check
        """The check that failed: ``genesis``, ``signature``, ``inclusion``, ..."""
        self.detail = detail


class InvalidRound(VerificationError):
    """Raised when a published round is not what the rules give."""

    def __init__(self, round: int, check: str, detail: str) -> None:
        super().__init__(f"round {round}: {check}: {detail}")
        self.round = round
        self.check = check
        """The check that failed: ``verdict``, ``root``, ``poh``, ..."""
        self.detail = detail
