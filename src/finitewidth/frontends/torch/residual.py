"""Residual additions: how much of the critical variance each branch may have.

An addition s = γ x + β f, with f from fresh weights of zero mean, adds variances: K_s = γ² K_x + β² K_f, and a small
change of x is carried with χ = γ² + β² χ_f (PDLT's recursion with a skip; FACTS 7.4). So, with C_W of the branch's last
layer multiplied by a share,

    γ² < 1    critical at share β² = 1 − γ²: χ = 1 exactly.
    γ² = 1    χ = 1 + share β² χ_f > 1 whatever the share: no choice is critical. With share β² = 1/D, where D is the
              number of additions along the stream, all of them together grow by (1 + 1/D)^D < e, at any depth. Where β²
              is smaller than 1/D by itself (a learned gain that starts at 1e-6 or at 0), the share is 1.
    f + g     two branches of fresh weights side by side (a projection on the skip): each of m terms gets 1/m.
"""

from dataclasses import dataclass

from finitewidth.frontends.torch.model import Call, Reading
from finitewidth.frontends.torch.signals import (
    Affine,
    Elementwise,
    Normalised,
    Preactivation,
    Signal,
    Sum,
    stripped,
    upstream,
)


@dataclass(frozen=True)
class Share:
    """Of the last layer of a branch: the factor of its variances, why, and the skip that it is added to, if any."""

    factor: float
    note: str
    skip: Signal | None = None


def branch_shares(reading: Reading) -> tuple[dict[int, Share], list[str]]:
    """Shares by the number of the call that ends a branch, and remarks on additions that cannot be set right so."""
    additions = _additions(reading)
    lengths = _stream_lengths(additions)
    shares: dict[int, Share] = {}
    remarks = []
    for addition in additions:
        skips, branches = _skips_and_branches(addition)
        for coefficient, branch in branches:
            call, remark = _end_of(branch, addition.path)
            remarks += [remark] if remark else []
            if call is not None and coefficient != 0:
                share = _share(skips, len(branches), coefficient, lengths[id(addition)])
                earlier = shares.get(call.number)
                shares[call.number] = share if earlier is None or share.factor < earlier.factor else earlier
            if not skips or skips[0][0] ** 2 < 1 or coefficient == 0:
                continue
            remarks.append(
                "additions with a skip of weight 1: no choice is critical, χ = 1 + share × χ of the branch; with "
                "shares of 1/D all D of a stream grow by at most e together"
            )
    return shares, list(dict.fromkeys(remarks))


def _share(skips: list[tuple[float, Signal]], branches: int, beta: float, D: int) -> Share:
    gamma = skips[0][0] if skips else 0.0
    if not skips:
        return Share(1 / (branches * beta**2), f"one of {branches} branches that are added: their variances add up")
    if gamma**2 < 1:
        factor = (1 - gamma**2) / (branches * beta**2)
        return Share(factor, f"added to {gamma:g} × its input: 1 − γ² of the variance")
    if D * branches * beta**2 < 1:
        return Share(1.0, f"added, × {abs(beta):.3g}, to its input: less than 1/{D} of the variance as it is")
    note = f"added to its input: 1/{D} of the variance ({D} additions in a row)"
    return Share(1 / (D * branches * beta**2), note, skips[0][1])


def _additions(reading: Reading) -> list[Sum]:
    """All residual additions, those nearest to the data first."""
    ends = [*(call.source for call in reading.calls), *reading.outputs]
    found: dict[int, Sum] = {}
    for end in ends:
        here = [s for s in upstream(end) if isinstance(s, Sum) and id(s) not in found]
        found |= {id(s): s for s in sorted(here, key=lambda s: sum(1 for _ in upstream(s)))}
    return list(found.values())


def _skips_and_branches(addition: Sum) -> tuple[list[tuple[float, Signal]], list[tuple[float, Signal]]]:
    """A term is a skip if the others are computed from it."""
    terms = addition.terms
    behind = [{id(s) for s in upstream(signal)} for _, signal in terms]
    is_skip = [
        any(_carries(signal, behind[j]) for j in range(len(terms)) if j != i) for i, (_, signal) in enumerate(terms)
    ]
    return (
        [term for term, skip in zip(terms, is_skip, strict=True) if skip],
        [term for term, skip in zip(terms, is_skip, strict=True) if not skip],
    )


def _carries(signal: Signal, behind: set[int]) -> bool:
    """Whether `signal`, or a term of it that is added, is among what is behind another signal."""
    signal = stripped(signal)
    return id(signal) in behind or (isinstance(signal, Sum) and any(_carries(s, behind) for _, s in signal.terms))


def _stream_lengths(additions: list[Sum]) -> dict[int, int]:
    """For each addition, how many there are along its stream."""
    before: dict[int, int | None] = {}
    for addition in additions:
        skips, _ = _skips_and_branches(addition)
        before[id(addition)] = _addition_before(skips[0][1]) if skips else None
    depth: dict[int, int] = {}
    for addition in additions:  # nearest to the data first: the one before is already counted
        earlier = before[id(addition)]
        depth[id(addition)] = 1 + (depth.get(earlier, 0) if earlier is not None else 0)
    longest = dict(depth)
    for addition in reversed(additions):
        earlier = before[id(addition)]
        if earlier is not None and earlier in longest:
            longest[earlier] = max(longest[earlier], longest[id(addition)])
    return longest


def _addition_before(signal: Signal) -> int | None:
    """The addition that a skip comes from, through activations and normalisations on the way."""
    signal = stripped(signal)
    while isinstance(signal, (Elementwise, Normalised, Affine)):
        signal = stripped(signal.base if isinstance(signal, Elementwise) else signal.of)
    return id(signal) if isinstance(signal, Sum) else None


def _end_of(branch: Signal, path: str) -> tuple[Call | None, str]:
    """The call that ends a branch, and what is wrong with its end if something is."""
    where = f"addition in {path!r}" if path else "addition"
    signal = stripped(branch)
    if isinstance(signal, Preactivation):
        return signal.call, ""
    if isinstance(signal, Normalised):
        return None, (
            f"{where}: the branch ends in {signal.operation}, so its variance is {signal.mean_square:.3g} whatever the "
            "weights; only that layer's own gain can make it small"
        )
    if isinstance(signal, Affine):
        return _end_of(signal.of, path)
    if isinstance(signal, Elementwise):
        call, _ = _end_of(signal.base, path)
        return call, f"{where}: the branch ends in {signal.text}, whose mean adds up over depth; end it in a layer"
    return None, f"{where}: the branch ends in {type(signal).__name__.lower()}, which weights cannot set"
