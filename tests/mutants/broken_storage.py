"""Storage backends that keep nothing, with one mistake each, such as authors make."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from biting import Mutant

from citychain.errors import LeaseLost, NameTaken
from citychain.genesis import city_name
from citychain.hooks.definitions import API_VERSION, StorageDefinition
from citychain.ports import PendingPage
from citychain.storage.memory import MemoryBackend, MemoryCity
from citychain.testing.conformance import StorageSuite
from citychain.types import ObjectState, SealedNode

__all__ = ["MUTANTS", "Suite", "forgetting"]


class Suite(StorageSuite):
    """The suite, smaller."""

    big_batch = 2_000
    examples = 500
    kills = 1


def forgetting(city: type[MemoryCity], **definition: Any) -> StorageDefinition:
    """A backend whose cities are of this class."""

    class Backend(MemoryBackend):
        async def city(self, genesis, genesis_file, initial):
            if genesis not in self._cities:
                self._cities[genesis] = city(self._clock, genesis_file, initial)
            return self._cities[genesis]

    made: dict[str, Any] = {"durable": False, "api_version": API_VERSION} | definition
    return StorageDefinition("broken", lambda options, context: Backend(context), **made)


def caught_by(test: str, name: str, **definition: Any) -> Callable[[type], type]:
    """Lists a class of cities as a mutant."""

    def listed(city: type[MemoryCity]) -> type[MemoryCity]:
        MUTANTS.append(Mutant(name, forgetting(city, **definition), test))
        return city

    return listed


MUTANTS: list[Mutant] = []


# --- intake


@caught_by("test_appended_transactions_and_keys_are_read_back", "forgets the last of a batch")
class ForgetsTheLast(MemoryCity):
    """Writes a batch in pairs, and not the one that is left."""

    async def append(self, transactions, keys):
        await super().append(transactions[: len(transactions) // 2 * 2], keys)


@caught_by("test_appending_again_changes_nothing", "replaces a stored envelope on repeat")
class ReplacesOnRepeat(MemoryCity):
    """An upsert where the first envelope must stay."""

    async def append(self, transactions, keys):
        await super().append(transactions, keys)
        self._raw.update({t.tx_id: t for t in transactions})


@caught_by("test_a_sealed_transaction_is_not_received_again", "a repeat is pending once more")
class PendingOnceMore(MemoryCity):
    """Looks for a repeat among the pending ones only."""

    async def append(self, transactions, keys):
        await super().append(transactions, keys)
        for transaction in transactions:
            self._pending.setdefault(transaction.tx_id, self._arrivals)


@caught_by(
    "test_overlapping_appends_of_one_transaction_store_it_once", "looks, waits and then writes"
)
class LooksThenWrites(MemoryCity):
    """What it has looked for may have been written meanwhile."""

    async def append(self, transactions, keys):
        new = {t.tx_id: t for t in transactions if t.tx_id not in self._raw}
        await asyncio.sleep(0)
        await super().append(transactions, keys)
        self._raw.update(new)


@caught_by("test_what_does_not_exist_is_absent", "raises for missing ids")
class RaisesForMissing(MemoryCity):
    """Looks ids up as if all existed."""

    async def raw(self, tx_ids):
        return {tx_id: self._raw[tx_id] for tx_id in tx_ids}


@caught_by("test_pending_pages_hold_each_transaction_once", "gives the last of a page again")
class GivesTwice(MemoryCity):
    """A cursor that is where the next page begins, read as where the last one ended."""

    async def pending(self, cursor, limit):
        page = await super().pending(cursor, limit)
        if page.cursor is None or limit < 2:
            return page
        return PendingPage(page.transactions, (int.from_bytes(page.cursor) - 1).to_bytes(8))


@caught_by("test_pending_ids_are_those_of_what_is_pending", "lists what is sealed already")
class ListsSealed(MemoryCity):
    """Gives the ids of all that was ever received."""

    async def pending_ids(self, limit=None):
        return list(self._raw)[:limit]


@caught_by("test_pending_ids_are_those_of_what_is_pending", "gives the newest")
class GivesTheNewest(MemoryCity):
    """Gives as many as it is asked for, from the wrong end."""

    async def pending_ids(self, limit=None):
        return (await super().pending_ids())[-limit if limit else None :]


@caught_by("test_pending_pages_hold_each_transaction_once", "the cursor skips one")
class SkipsOne(MemoryCity):
    """The opposite."""

    async def pending(self, cursor, limit):
        page = await super().pending(cursor, limit)
        if page.cursor is None:
            return page
        return PendingPage(page.transactions, (int.from_bytes(page.cursor) + 1).to_bytes(8))


@caught_by("test_any_sequence_of_calls", "the cursor counts what is pending")
class CountsPending(MemoryCity):
    """An offset into a list that gets shorter as rounds seal."""

    async def pending(self, cursor, limit):
        begin = 0 if cursor is None else int.from_bytes(cursor)
        rest = [self._raw[tx_id] for tx_id in self._pending][begin:]
        more = len(rest) > limit
        return PendingPage(rest[:limit], (begin + limit).to_bytes(8) if more else None)


# --- rounds


@caught_by("test_a_round_is_committed_once", "accepts a taken round")
class AcceptsTaken(MemoryCity):
    """Does nothing where it must say that another was first."""

    async def commit(self, sealed):
        if sealed.round > self._head.round:
            await super().commit(sealed)


@caught_by("test_a_commit_under_an_older_epoch_is_refused", "accepts an old epoch")
class AcceptsOldEpoch(MemoryCity):
    """Forgets to fence."""

    async def commit(self, sealed):
        await super().commit(replace(sealed, epoch=self._epoch))


@caught_by("test_a_round_begins_where_the_log_ends", "takes any first index")
class AnyFirstIndex(MemoryCity):
    """Goes by the number alone."""

    async def commit(self, sealed):
        await super().commit(replace(sealed, first_index=self._head.size))


@caught_by(
    "test_a_lease_is_newer_than_rounds_that_came_from_elsewhere", "counts its own leases alone"
)
class CountsItsOwnLeasesAlone(MemoryCity):
    async def acquire_lease(self, holder, ttl):
        self._epoch += 1
        return self._epoch


@caught_by("test_lease_epochs_grow", "renews a lost lease")
class RenewsLost(MemoryCity):
    """Whoever asks holds it."""

    async def renew_lease(self, epoch, ttl):
        if epoch > self._epoch:
            raise LeaseLost(epoch)


@caught_by("test_rounds_may_seal_nothing_or_link_nothing", "tips of a round without linked nodes")
class EmptyTips(MemoryCity):
    """Those of the last round, whatever is in it."""

    async def tips(self):
        return [n.ref for n in await self.round_nodes(self._head.round) if n.node_id is not None]


@caught_by("test_the_latest_node_is_the_authors_last_linked_one", "latest of a round is its first")
class FirstIsLatest(MemoryCity):
    """An author's several nodes of one round: the first one stays."""

    async def commit(self, sealed):
        await super().commit(sealed)
        for node in reversed(await self.round_nodes(sealed.round)):
            if node.node_id is not None:
                self._latest[node.author] = node.ref


@caught_by("test_children_come_in_pages_by_place", "children come in order of id")
class ChildrenByID(MemoryCity):
    """As an index of ids gives them."""

    async def children(self, parent, after, limit):
        found = sorted(await super().children(parent, after, 10**6), key=lambda n: n.node_id)
        return found[:limit]


@caught_by("test_everything_of_a_round_is_read_back", "drops judgements of place")
class DropsPops(MemoryCity):
    """A column forgotten."""

    async def round_nodes(self, round):
        return [replace(node, pop=None) for node in await super().round_nodes(round)]


@caught_by("test_ids_that_share_a_beginning_are_told_apart", "compares eight bytes of an id")
class ShortIDs(MemoryCity):
    """An index of prefixes, taken for the ids."""

    async def find(self, tx_ids):
        by_prefix = {tx_id[:8]: node for tx_id, node in self._sealed.items()}
        return {tx_id: by_prefix[tx_id[:8]] for tx_id in tx_ids if tx_id[:8] in by_prefix}


@caught_by("test_hashes_are_read_in_any_range", "fills up leaf hashes beyond the end")
class PadsLeafHashes(MemoryCity):
    """Gives as many as it was asked for."""

    async def leaf_hashes(self, begin, end):
        return (await super().leaf_hashes(begin, end)).ljust(32 * (end - begin), b"\0")


@caught_by("test_certificates_may_come_in_any_order_and_again", "replaces a certificate")
class ReplacesCertificate(MemoryCity):
    """The last one counts, not the first."""

    async def certify(self, certificates):
        await super().certify(certificates)
        for certificate in certificates:
            index = certificate.round - 1
            self._rounds[index] = replace(self._rounds[index], certificate=certificate)


@caught_by("test_a_certificate_of_no_round_is_refused", "ignores a certificate of no round")
class IgnoresEarly(MemoryCity):
    """Its caller believes that it is stored."""

    async def certify(self, certificates):
        await super().certify([c for c in certificates if 1 <= c.round <= self._head.round])


# --- notes and cities


@caught_by("test_notes_come_by_prefix_in_order_of_their_bytes", "takes a prefix for a pattern")
class NotesByPattern(MemoryCity):
    """LIKE, GLOB or a regular expression, with the prefix unescaped."""

    async def notes(self, prefix, known=None):
        return {
            n: self._notes[n] for n in sorted(self._notes) if fnmatch.fnmatchcase(n, f"{prefix}*")
        }


@caught_by("test_notes_that_are_known_are_left_out", "leaves out names that are known")
class KnowsNames(MemoryCity):
    """However the note reads now."""

    async def notes(self, prefix, known=None):
        found = await super().notes(prefix)
        return {name: note for name, note in found.items() if name not in (known or {})}


@caught_by("test_notes_that_are_known_are_left_out", "leaves nothing out")
class LeavesNothingOut(MemoryCity):
    """Reads everything again."""

    async def notes(self, prefix, known=None):
        return await super().notes(prefix)


class Foundling(MemoryBackend):
    """Writes the initial objects each time that a city is opened."""

    async def city(self, genesis, genesis_file, initial):
        city = await super().city(genesis, genesis_file, initial)
        city._objects.update({w.object: ObjectState(w.version, w.value) for w in initial})
        return city


MUTANTS.append(
    Mutant(
        "writes initial objects at each opening",
        replace(forgetting(MemoryCity), factory=lambda options, context: Foundling(context)),
        "test_initial_objects_are_stored_on_first_use_only",
    )
)


# --- names


class Nameless(MemoryBackend):
    """Knows cities by their genesis ids alone."""

    async def city(self, genesis, genesis_file, initial):
        return await super().city(genesis, b"", initial)


class GoesByTheSlug(MemoryBackend):
    """Leaves the network out."""

    def __init__(self, context):
        super().__init__(context)
        self._slugs = {}

    async def city(self, genesis, genesis_file, initial):
        slug = (city_name(genesis_file) or "").rpartition("/")[2]
        if slug and self._slugs.setdefault(slug, genesis) != genesis:
            raise NameTaken(slug, self._cities[self._slugs[slug]].genesis_file)
        return await super().city(genesis, genesis_file, initial)


class NamesAnyFile(MemoryBackend):
    """Takes the file for the name where it is no genesis."""

    def __init__(self, context):
        super().__init__(context)
        self._files = {}

    async def city(self, genesis, genesis_file, initial):
        if self._files.setdefault(genesis_file, genesis) != genesis:
            raise NameTaken("", genesis_file)
        return await super().city(genesis, genesis_file, initial)


class LooksThenFounds(MemoryBackend):
    """Sees that the name is free, waits and takes it."""

    async def city(self, genesis, genesis_file, initial):
        for there in self._cities.values():
            if there.genesis_file != genesis_file:
                name = city_name(there.genesis_file)
                if name == city_name(genesis_file):
                    raise NameTaken(name, there.genesis_file)
        await asyncio.sleep(0)
        return self._cities.setdefault(genesis, self._founded(genesis_file, initial))


class TellsItsOwnFile(MemoryBackend):
    """Gives with the error the file that it was given."""

    async def city(self, genesis, genesis_file, initial):
        try:
            return await super().city(genesis, genesis_file, initial)
        except NameTaken as error:
            raise NameTaken(error.name, genesis_file) from None


class KeepsTheName(MemoryBackend):
    """Forgets all of a city but its name."""

    async def forget(self, city, initial):
        await super().forget(city, initial)
        self._names.take(city, self._cities[city].genesis_file)


class ComesBackBesideIt(MemoryBackend):
    """Looks at the name of a new city, and not of one that it has forgotten."""

    async def city(self, genesis, genesis_file, initial):
        if genesis in self._cities:
            return self._cities[genesis]
        return await super().city(genesis, genesis_file, initial)


for broken, does, test in (
    (Nameless, "founds a second city of a name", "test_a_storage_has_one_city_of_a_name"),
    (
        GoesByTheSlug,
        "takes cities of two networks for one",
        "test_cities_of_other_names_and_networks_are_beside_it",
    ),
    (NamesAnyFile, "wants names of all", "test_what_is_no_genesis_file_has_no_name"),
    (
        LooksThenFounds,
        "looks for the name, waits and founds",
        "test_cities_of_one_name_that_are_founded_at_once_become_one",
    ),
    (TellsItsOwnFile, "does not say which city it has", "test_a_storage_has_one_city_of_a_name"),
    (KeepsTheName, "keeps the name of a city", "test_a_city_that_is_forgotten_leaves_its_name"),
    (
        ComesBackBesideIt,
        "lets a city come back beside another",
        "test_a_city_that_is_forgotten_leaves_its_name",
    ),
):
    MUTANTS.append(
        Mutant(
            does,
            replace(
                forgetting(MemoryCity),
                factory=lambda options, context, broken=broken: broken(context),
            ),
            test,
        )
    )


# --- overlapping and cancelled calls


@caught_by(
    "test_a_write_cancelled_at_any_await_is_whole_or_absent", "commits partly when cancelled"
)
class CommitsPartly(MemoryCity):
    """Writes the objects, waits, writes the rest."""

    async def commit(self, sealed):
        for write in sealed.writes:
            self._objects[write.object] = ObjectState(write.version, write.value)
        await asyncio.sleep(0)
        await super().commit(sealed)


@caught_by(
    "test_a_write_cancelled_at_any_await_is_whole_or_absent", "appends partly when cancelled"
)
class AppendsPartly(MemoryCity):
    """One by one."""

    async def append(self, transactions, keys):
        for transaction in transactions:
            await super().append([transaction], keys)
            await asyncio.sleep(0)


@caught_by("test_a_write_cancelled_at_any_await_is_whole_or_absent", "swallows a cancellation")
class SwallowsCancellation(MemoryCity):
    """Tries again after whatever was raised."""

    async def append(self, transactions, keys):
        try:
            await asyncio.sleep(0)
        except BaseException:
            await asyncio.sleep(0)
        await super().append(transactions, keys)


@caught_by("test_reads_during_writes_are_of_whole_rounds", "shows the head before the round")
class HeadFirst(MemoryCity):
    """A round that is written in two steps, the head first."""

    _shown = None

    async def commit(self, sealed):
        self._shown = replace(self._head, round=sealed.round)
        await asyncio.sleep(0)
        await super().commit(sealed)
        self._shown = None

    async def head(self):
        return self._shown or self._head


@caught_by("test_an_answer_does_not_change_when_the_storage_does", "hands its own lists out")
class HandsOutLists(MemoryCity):
    """Which grow under the eyes of who got them."""

    async def rounds(self, first, limit):
        return self._rounds if first == 1 else await super().rounds(first, limit)


@caught_by("test_arguments_may_be_changed_after_the_call", "keeps the caller's lists")
class KeepsArguments(MemoryCity):
    """Which the caller may use for something else."""

    _verdicts: dict[int, Any]

    async def commit(self, sealed):
        await super().commit(sealed)
        self._nodes_by_round[-1] = Columns(sealed)


class Columns:
    """Nodes of a round as they are asked for."""

    def __init__(self, sealed):
        self._sealed = sealed

    def __iter__(self):
        sealed = self._sealed
        for seq, transaction in enumerate(sealed.transactions):
            yield SealedNode(
                transaction.tx_id,
                transaction.author,
                sealed.round,
                seq,
                sealed.node_ids[seq],
                sealed.parents[seq],
                sealed.verdicts[seq],
                sealed.pops[seq] if sealed.pops else None,
            )


LOCK = asyncio.Lock()


@caught_by("test_a_new_event_loop_opens_what_another_left", "has a lock for all event loops")
class OneLock(MemoryCity):
    """A lock belongs to the loop in which somebody first waited for it."""

    async def append(self, transactions, keys):
        async with LOCK:
            await asyncio.sleep(0)
            await super().append(transactions, keys)


# --- several servers


@caught_by("test_two_servers_see_each_others_writes", "is shared by its own word only", shared=True)
class NotShared(MemoryCity):
    """Says ``shared=True``, and has what it has for itself."""


SHARED: dict[Path, dict[bytes, MemoryCity]] = {}


class NamesForItself(MemoryBackend):
    """Is shared, and only knows the names that this server gave."""

    def __init__(self, context):
        super().__init__(context)
        self._cities = SHARED.setdefault(context.directory, {})


MUTANTS.append(
    Mutant(
        "each server has names of its own",
        replace(
            forgetting(MemoryCity, shared=True),
            factory=lambda options, context: NamesForItself(context),
        ),
        "test_of_servers_that_found_a_city_at_once_one_does",
    )
)


class AlwaysGrants(MemoryBackend):
    """Is shared, and grants the lease to whoever asks."""

    def __init__(self, context):
        super().__init__(context)
        self._cities = SHARED.setdefault(context.directory, {})


MUTANTS.append(
    Mutant(
        "grants the lease to two servers",
        replace(
            forgetting(MemoryCity, shared=True),
            factory=lambda options, context: AlwaysGrants(context),
        ),
        "test_one_server_at_a_time_holds_the_lease",
    )
)
