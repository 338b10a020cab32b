"""The consensus step ``otsu-librarian``: nothing is approved without the librarian.

The first seat of the genesis is the librarian's, with more than a third of all stake: two thirds
cannot be had without it. The clerks take turns, so that one of three or more rests in each epoch.
Only the librarian writes the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from citychain import (
    ApprovedByVotes,
    CityContext,
    ConfigurationError,
    ConsensusDefinition,
    Judgement,
    Rejection,
    RoundContext,
    Seat,
    StateView,
    Transaction,
    hookimpl,
)

NOT_LIBRARIAN = Rejection("NOT_LIBRARIAN", "the librarian alone writes the catalogue")


class LibrarianOptions(BaseModel):
    """Options of the step, as in ``consensus_options`` of citychain.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch_rounds: int = Field(default=100, ge=1, description="Rounds after which clerks change.")
    catalogue: str = Field(
        default="catalogue-", min_length=1, description="Prefix of the librarian's objects."
    )


class Librarian(ApprovedByVotes):
    """Votes as everywhere, counted so that one member has a veto."""

    def __init__(self, options: LibrarianOptions, city: CityContext) -> None:
        seats = city.genesis.seats
        others = sum(seat.stake for seat in seats[1:])
        if seats[0].stake * 2 <= others:
            raise ConfigurationError(
                f"city {city.slug}: give the librarian, the first of the committee, a stake of "
                f"{others // 2 + 1} or more: others have {others}"
            )
        super().__init__(city)
        self.options = options

    async def judge(
        self, round: RoundContext, candidates: Sequence[Transaction], state: StateView
    ) -> Judgement:
        """The catalogue is the librarian's; the clerks change at the end of an epoch."""
        librarian = self.city.genesis.seats[0].key_id
        refused = {
            index: NOT_LIBRARIAN
            for index, candidate in enumerate(candidates)
            if candidate.author != librarian
            and any(name.startswith(self.options.catalogue) for name, _ in candidate.writes)
        }
        epoch, place = divmod(round.round - 1, self.options.epoch_rounds)
        now, then = self.seats(epoch), self.seats(epoch + 1)
        changes = place == self.options.epoch_rounds - 1 and now != then
        return Judgement(committee=now, next_committee=then if changes else None, refused=refused)

    def seats(self, epoch: int) -> tuple[Seat, ...]:
        """Who is in office: all in the first epoch, then all but one clerk."""
        librarian, *clerks = self.city.genesis.seats
        if epoch > 0 and len(clerks) > 1:
            del clerks[epoch % len(clerks)]
        return (librarian, *clerks)


STEP = ConsensusDefinition(
    name="otsu-librarian",
    factory=Librarian,
    options=LibrarianOptions,
    version=1,  # One more whenever the same round gets another judgement.
    quorum="two-thirds",  # The librarian's veto rests on it.
    api_version=2,
)


@hookimpl
def citychain_consensus_steps() -> Iterable[ConsensusDefinition]:
    """The step."""
    yield STEP
