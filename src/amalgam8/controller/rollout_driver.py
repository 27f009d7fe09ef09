"""Carries one rollout on, from wherever its record and the rules stand.

The record says what is to be, and is stored first; here the rules are made to be that, which may be
repeated. So if one dies between the two, the next driver finds out what is missing. What was counted is kept
in memory: a driver that is made anew begins the interval again. Refuses to fight with people: where somebody
else changed what a rollout builds on, it ends.
"""

from collections.abc import Callable
from functools import partial

import msgspec

from amalgam8.controller import rollout_rules as rules
from amalgam8.controller.book import Change
from amalgam8.controller.judge import judge, told
from amalgam8.controller.ledger import Moment
from amalgam8.controller.rollout import Rollout, State
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.model.rule import rfc3339
from amalgam8.model.traffic import NOTHING, Tally

CONFIRM_WITHIN = 45.0
"""Seconds that sidecars have to confirm a step; its end is put off later, which they confirm anew."""

RETURN_WITHIN = 30.0
"""Seconds that the end of a rollout waits for sidecars to confirm it."""

LATE = 20.0
"""Seconds after an interval within which sidecars tell what they counted in it."""

LOOK_BACK = 500
"""Revisions in which to look for whoever removed its rule."""

WANTED_FOR = 5.0


class Now(msgspec.Struct, frozen=True):
    """The present interval: ``phase`` is ``waiting`` for sidecars or ``judging``, for ``seconds`` so far."""

    phase: str
    seconds: float
    new: Tally = NOTHING
    old: Tally = NOTHING


class Driver:
    """Drives one rollout of ``tenant``; ``clock`` is steady, in seconds."""

    def __init__(self, tenants: Tenants, tenant: Tenant, clock: Callable[[], float]) -> None:
        self._tenants = tenants
        self._tenant = tenant
        self._clock = clock
        self._change: Change | None = None
        self._state: State = "running"
        self._begin()

    def _begin(self) -> None:
        """A step is to be put in force: nothing was counted in it yet."""
        self._entered = self._clock()
        self._since: float | None = None
        self._before = (NOTHING, NOTHING, 0)

    async def step(self, rollout: Rollout) -> Rollout | None:
        """The next edition of the record, to be stored; None: it stays.

        May raise what ``Tenants.write`` does.
        """
        if rollout.state == "returning":
            return await self._return(rollout)
        if rollout.state == "finishing":
            return await self._finish(rollout)
        if rollout.state != self._state:  # paused or resumed: a whole interval from here on
            self._state = rollout.state
            self._begin()
        self._tenant.calls.want(self._clock(), WANTED_FOR)
        return await self._go_on(rollout)

    def now(self, rollout: Rollout) -> Now:
        """What is counted just now."""
        if self._since is None:
            return Now("waiting", round(self._clock() - self._entered, 3))
        return Now("judging", round(self._clock() - self._since, 3), *self._counted(rollout))

    async def _go_on(self, rollout: Rollout) -> Rollout | None:
        book = self._tenant.mirror.book
        where = rules.place(book, rollout)
        if not rules.undisturbed(book, rollout):
            return self._turned(rollout, f"the default route {rollout.base.id} was changed", "aborted")
        if where == "foreign":
            return self._turned(rollout, f"the rule {rollout.rule} was changed", "aborted")
        if where == "absent" and await self._was_removed(rollout):
            return self._turned(rollout, f"the rule {rollout.rule} was removed", "aborted")
        if where != "there":
            self._begin()
            await self._tenants.write(self._tenant, partial(rules.share, rollout))
            return None
        if rules.runs_out(book, rollout, self._tenants.now()):
            await self._tenants.write(self._tenant, partial(rules.share, rollout))
        return self._confirmed(rollout) if self._since is None else self._judged(rollout)

    def _confirmed(self, rollout: Rollout) -> Rollout | None:
        """Begin to count once every sidecar follows the step."""
        status = self._tenant.ledger.status(rollout.rule, self._moment())
        refusing = [one for one in status.sidecars if one.state == "rejected"]
        if refusing:
            text = f"{rollout.share:g} %: the proxy of {refusing[0].id} refuses it: {refusing[0].reason}"
            return self._turned(rollout, text, "failed")
        if status.applied:
            self._since, self._before = self._clock(), self._sums(rollout)
            return None
        if self._clock() - self._entered > CONFIRM_WITHIN:
            missing = [one for one in status.sidecars if one.state != "applied"]
            text = (
                f"{rollout.share:g} %: not confirmed by {len(missing)} of {status.concerned} sidecars within"
                f" {CONFIRM_WITHIN:g} s, such as {missing[0].id} of {missing[0].service or 'nobody'}"
            )
            return self._turned(rollout, text, "inconclusive")
        return None

    def _judged(self, rollout: Rollout) -> Rollout | None:
        """Go on, or back, by what was counted in this step."""
        assert self._since is not None  # noqa: S101 - asked for by ``_go_on`` only then
        end = self._since + rollout.order.interval
        new, old = self._counted(rollout)
        over = self._clock() >= end and (self._all_counted(end) or self._clock() >= end + LATE)
        judgement = judge(rollout.order, new, old, over=over)
        if judgement.verdict == "bad":
            return self._turned(rollout, f"{rollout.share:g} %: {judgement.why}", "failed")
        if not over:
            return None
        if rollout.state == "paused":
            self._since, self._before = self._clock(), self._sums(rollout)
            return None
        if judgement.verdict == "unclear":
            return self._turned(rollout, f"{rollout.share:g} %: {judgement.why}", "inconclusive")
        text = f"{rollout.share:g} %: good: {told(rollout.order, new, old)}"
        if rollout.step + 1 == len(rollout.order.steps):
            return rollout.went(self._at(), text, state="finishing")
        return rollout.went(self._at(), text, step=rollout.step + 1)

    async def _return(self, rollout: Rollout) -> Rollout | None:
        if rules.place(self._tenant.mirror.book, rollout) in ("there", "other"):
            self._change = await self._tenants.write(self._tenant, partial(rules.withdraw, rollout))
            self._begin()
            return None
        if self._spreading():
            return None
        text = f"all calls go to {','.join(rollout.old) or 'the old version'} again"
        return self._ended(rollout, text, rollout.outcome)

    async def _finish(self, rollout: Rollout) -> Rollout | None:
        book = self._tenant.mirror.book
        if rules.is_finished(book, rollout):
            if self._spreading():
                return None
            return self._ended(rollout, f"{','.join(rollout.order.version)} is the default version", "done")
        if not rules.undisturbed(book, rollout) or rules.place(book, rollout) == "foreign":
            return self._turned(rollout, f"the default route {rollout.base.id} was changed", "aborted")
        self._change = await self._tenants.write(self._tenant, partial(rules.finish, rollout))
        self._begin()
        return None

    def _spreading(self) -> bool:
        """Whether to wait for sidecars that have not confirmed the last change yet."""
        if self._change is None or self._clock() - self._entered > RETURN_WITHIN:
            return False
        return not self._tenant.ledger.verdict(self._change, self._moment()).applied

    async def _was_removed(self, rollout: Rollout) -> bool:
        """Whether its rule is gone by somebody's hand, not by its time or since it was never there."""
        for change in await self._tenants.history(self._tenant, None, LOOK_BACK):
            if rollout.rule in change.ids:
                return change.cause != "lapse"
        return False

    def _sums(self, rollout: Rollout) -> tuple[Tally, Tally, int]:
        calls, service, new = self._tenant.calls, rollout.order.service, rollout.order.version
        return (
            calls.total(service, new),
            calls.total(service, rollout.old, lacking=new),
            calls.nowhere(service),
        )

    def _counted(self, rollout: Rollout) -> tuple[Tally, Tally]:
        """Calls to the new version, those for which it had no instance among them, and to the old one."""
        new, old, nowhere = self._sums(rollout)
        missed = max(nowhere - self._before[2], 0)
        return new.since(self._before[0]).plus(Tally(missed, missed, missed)), old.since(self._before[1])

    def _all_counted(self, end: float) -> bool:
        """Whether every sidecar that counts has told what it counted until ``end``."""
        now = self._clock()
        times = [
            self._tenant.calls.counted(one.id) for one in self._tenant.fleet.present(now) if not one.gone(now)
        ]
        return all(at is None or at >= end for at in times)

    def _moment(self) -> Moment:
        return Moment(self._clock(), self._tenants.now())

    def _at(self) -> str:
        return rfc3339(self._tenants.now())

    def _turned(self, rollout: Rollout, text: str, outcome: State) -> Rollout:
        return rollout.turned(self._at(), text, outcome)

    def _ended(self, rollout: Rollout, text: str, state: State) -> Rollout:
        return rollout.went(self._at(), text, state=state, ended=self._at())
