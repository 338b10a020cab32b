"""A recorder in front of any part of a city, or of its whole handler::

    recording = Recording()
    async with city_server(overrides={"tokyo": {"storage": recording}}) as server:
        ...
    assert recording.calls["commit"] == 1
    assert len(recording.named("append")[0].arguments["transactions"]) == 3
    print(recording)

prints all calls in the order in which they began, batches by their size::

    1  acquire_lease(holder='host:7', ttl=0:00:10) -> 1
    2  append(3 transactions, 1 keys) -> None
    3  commit(sealed=SealedRound(round 1, 3 transactions)) !! StorageError: no space

The parts of `citychain.testing` that fail, stall and lie record in the same way.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, overload

from citychain.nearest import unknown

__all__ = ["Call", "Calls", "Recording"]

CALLS_MAX: Final = 1_000
"""Calls that a recording keeps, the latest; it counts all."""
TEXT_MAX: Final = 60
"""Characters of a value in the text of a call."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of a part."""

    number: int
    """Among all calls, from 1, in the order in which they began."""
    name: str
    nth: int
    """Among the calls of this name, from 1."""
    arguments: Mapping[str, Any]
    """By the name of the parameter. Held, not copied."""
    result: Any = None
    """What it returned; of an asynchronous generator how many items it gave."""
    error: BaseException | None = None
    """What it raised; `asyncio.CancelledError` where its caller left."""
    ended: bool = False

    def __str__(self) -> str:
        arguments = ", ".join(_argument(*item) for item in self.arguments.items())
        text = f"{self.name}({arguments})"
        if not self.ended:
            return f"{text} ..."
        if self.error is not None:
            return f"{text} !! {type(self.error).__name__}: {self.error}".removesuffix(": ")
        return f"{text} -> {_brief(self.result)}"


class Calls(Sequence[Call]):
    """Calls in the order in which they began; ``calls["commit"]`` is how many have that name.

    Args:
        count: Tells how many, where more were made than were kept.
        check: Refuses a name that nothing has.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        count: Callable[[str], int] | None = None,
        check: Callable[[str], None] | None = None,
    ) -> None:
        self._calls = calls
        self._counted = count or self.names.count
        self._check = check

    @overload
    def __getitem__(self, place: str) -> int: ...
    @overload
    def __getitem__(self, place: int) -> Call: ...
    @overload
    def __getitem__(self, place: slice) -> Calls: ...
    def __getitem__(self, place: str | int | slice) -> int | Call | Calls:
        if isinstance(place, str):
            return self._count(place)
        if isinstance(place, slice):
            return Calls(self._calls[place], check=self._check)
        return self._calls[place]

    def _count(self, name: str) -> int:
        if self._check is not None:
            self._check(name)
        return self._counted(name)

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, item: object) -> bool:
        return self._count(item) > 0 if isinstance(item, str) else item in self._calls

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [call.name for call in self._calls]

    def __str__(self) -> str:
        if not self._calls:
            return "no calls"
        width = len(str(self._calls[-1].number))
        return "\n".join(f"{call.number:{width}}  {call}" for call in self._calls)

    __repr__ = __str__


class Recording:
    """Records what is asked of the part that it stands in front of, and forwards it.

    Given as an override, it is handed the real part; a city that is opened again hands it the
    next one, and its calls go on here. By hand: ``dag = recording(MyDag())``.

    Args:
        part: What to stand in front of instead of the real part.
        keep: How many calls are kept, the latest; all are counted.
    """

    _port: type | None = None
    """What it stands in front of, where that is known before."""

    def __init__(self, part: Any = None, *, keep: int = CALLS_MAX) -> None:
        self._part = part
        self._real = part if part is not None else self._port
        self._kept: deque[Call] = deque(maxlen=keep)
        self._counts: Counter[str] = Counter()

    def __call__(self, real: Any) -> Any:
        """What stands in front of ``real``: it answers to all that ``real`` does."""
        self._real = real if self._part is None else self._part
        return _InFront(self, self._real)

    @property
    def calls(self) -> Calls:
        """All calls so far that are kept."""
        return Calls(tuple(self._kept), self._counts.__getitem__, self._check)

    def named(self, name: str) -> Calls:
        """Those of one method.

        Raises:
            ValueError: the part has no such method, or there was no part yet.
        """
        self._check(name)
        return Calls([call for call in self._kept if call.name == name], check=self._check)

    def __str__(self) -> str:
        dropped = self._counts.total() - len(self._kept)
        earlier = f"({dropped} earlier calls are not kept)\n" if dropped else ""
        return f"{earlier}{self.calls}"

    # --- what a subclass may do

    async def _before(self, call: Call) -> None:
        """Get in the way of a call before it reaches the real part."""

    def _after(self, call: Call, result: Any) -> Any:
        """Bend what the real part returned."""
        return result

    # --- the record

    def _check(self, name: str) -> None:
        """A misspelt name would make of "it was never called" a test that always passes."""
        if name in self._counts:
            return
        if self._real is None:
            raise ValueError(
                f"calls of {name!r}: nothing was recorded yet, since this stands in front of no "
                "part: a city is opened when it is first asked for something"
            )
        if hasattr(self._real, name):
            return
        known = [known for known in dir(self._real) if not known.startswith("_")]
        who = getattr(self._real, "__name__", type(self._real).__name__)
        raise ValueError(f"{who} has {unknown('method', name, known)}")

    @contextmanager
    def _recorded(self, method: Any, name: str, args: Any, kwargs: Any) -> Iterator[Call]:
        self._counts[name] += 1
        arguments = _named_arguments(method, args, kwargs)
        call = Call(self._counts.total(), name, self._counts[name], arguments)
        self._kept.append(call)
        try:
            yield call
        except GeneratorExit:  # Whoever read it has enough.
            raise
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.ended = True


class _InFront:
    """What a city is given instead of a part.

    Everything is looked up on the part, so what is optional is offered if the part has it.
    """

    def __init__(self, recording: Recording, real: Any) -> None:
        self._recording = recording
        self._real = real

    def __repr__(self) -> str:
        return f"<{type(self._recording).__name__} in front of {type(self._real).__name__}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        attribute = getattr(self._real, name)
        # Or a part that returns an awaitable from a plain function would not be recognised.
        promised = getattr(self._recording._port, name, None)
        if inspect.isasyncgenfunction(attribute):
            return self._stream(name, attribute)
        if inspect.iscoroutinefunction(attribute) or inspect.iscoroutinefunction(promised):
            return self._asynchronous(name, attribute)
        return self._plain(name, attribute) if inspect.isroutine(attribute) else attribute

    def _asynchronous(self, name: str, method: Any) -> Any:
        recording = self._recording

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            with recording._recorded(method, name, args, kwargs) as call:
                await recording._before(call)
                call.result = recording._after(call, await method(*args, **kwargs))
            return call.result

        return call

    def _stream(self, name: str, method: Any) -> Any:
        recording = self._recording

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with recording._recorded(method, name, args, kwargs) as call:
                call.result = 0
                await recording._before(call)
                async with aclosing(method(*args, **kwargs)) as items:
                    async for item in items:
                        call.result += 1
                        yield item

        return call

    def _plain(self, name: str, method: Any) -> Any:
        recording = self._recording

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with ExitStack() as stack:
                call = stack.enter_context(recording._recorded(method, name, args, kwargs))
                result = method(*args, **kwargs)
                if inspect.isawaitable(result):  # It has not ended before that has.
                    return _to_its_end(stack.pop_all(), call, result)
                call.result = result
            return result

        return call


async def _to_its_end(recorded: ExitStack, call: Call, result: Awaitable[Any]) -> Any:
    with recorded:
        call.result = await result
    return call.result


def _named_arguments(
    method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Mapping[str, Any]:
    """A call's arguments by the method's parameters."""
    try:
        return inspect.signature(method).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # Where they do not fit, the call itself will say it.
        return {"args": args, **kwargs}


def _argument(name: str, value: Any) -> str:
    if _is_batch(value):
        return f"{len(value)} {name}"
    return f"{name}={_brief(value)}"


def _is_batch(value: Any) -> bool:
    if isinstance(value, str | bytes) or hasattr(value, "_fields"):  # A named tuple is one thing.
        return False
    return isinstance(value, Sequence | Mapping | Set)


def _brief(value: Any) -> str:
    """A value in a few words: batches by their size, rounds by their number."""
    if _is_batch(value):
        return f"{len(value)} items"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, timedelta):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        text = repr(value)
        return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 3]}..."
    facts = []
    if isinstance(number := getattr(value, "round", None), int):
        facts.append(f"round {number}")
    for name in ("transactions", "order"):
        batch: Any = getattr(value, name, None)
        if _is_batch(batch):
            facts.append(f"{len(batch)} transactions")
    return f"{type(value).__name__}({', '.join(facts)})" if facts else type(value).__name__
