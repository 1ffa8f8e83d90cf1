"""Card payments from a simulator of our own, in portfolios as far apart as two dials say, and their features.

No real payment is in here. That cards, shops and kinds of fraud are simulated is the idea of Le Borgne et
al., *Reproducible machine learning for credit card fraud detection*, 2022; rules and numbers are our own.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["CLIENTS", "FRAUD", "KINDS", "features", "habits", "simulate"]

Array = npt.NDArray[Any]

CLIENTS = {"sum": (3, 3.8), "a day": (1, 0.6), "hour": (13, 17), "online": (0.2, 0.6), "reach": (0.1, 0.3)}
"""What clients do in the source and at the far end of their dial: the middle of the logarithms of their sums,
payments a day, their hour, the share online, how far they go (the town is 1 wide)."""
FRAUD = {
    **{"theft": (0.5, 0.15), "test": (0.25, 0.25), "takeover": (0.25, 0.6), "thief's hour": (3, 12)},
    **{"thief's sum": (0.7, -0.3), "test's sum": (1, 2), "taker's sum": (0.4, 0)},
}
"""The same for fraud: shares of its kinds; the hour of thieves and takers; the logarithms of sums, a thief's
and a taker's beside what is usual for the card and the shop."""
KINDS = ("genuine", "theft", "test", "takeover")
CARDS, SHOPS, WEB, DAYS, FRAUDS_A_DAY = 2000, 400, 80, 61, 30
"""Cards, shops, those of them that are online, days, and the mean number of frauds a day."""


def habits(clients: float, fraud: float) -> dict[str, float]:
    """What a portfolio is told, between the source's numbers (dials at 0) and the far end's (at 1)."""
    told = [(CLIENTS, clients), (FRAUD, fraud)]
    return {name: a + dial * (b - a) for numbers, dial in told for name, (a, b) in numbers.items()}


def simulate(told: dict[str, float], *, seed: Any, cards: int = CARDS, days: int = DAYS) -> pd.DataFrame:
    """Payments in order of time: time (days), card, shop, amount, kind (of `KINDS`), online, place x, y."""
    rng = np.random.default_rng(seed)
    home, place, price = rng.random((cards, 2)), rng.random((SHOPS, 2)), rng.normal(0, 0.5, SHOPS)
    usual, peak = rng.normal(told["sum"], 0.4, cards), rng.normal(told["hour"], 2, cards)
    away = np.linalg.norm(home[:, None] - place, axis=2) / told["reach"]
    away[:, :WEB] = 0  # the first shops are online
    liked = away - rng.normal(0, 1, SHOPS) - rng.gumbel(size=away.shape)
    web, near = np.argsort(liked[:, :WEB])[:, :4], WEB + np.argsort(liked[:, WEB:])[:, :8]
    parts = []

    def pay(kind: int, card: Array, when: Array, shop: Array, middle: Any) -> None:
        amount = np.exp(rng.normal(middle, 0.5, len(card)))
        parts.append(pd.DataFrame({"time": when, "card": card, "shop": shop, "amount": amount, "kind": kind}))

    def hours(middle: Any, number: int) -> Array:
        return np.asarray(rng.normal(middle, 3, number) % 24 / 24)

    def bunches(kind: str, size: int) -> tuple[int, Array, int]:
        number = rng.poisson(FRAUDS_A_DAY * days * told[kind] / size)
        which = np.repeat(np.arange(number), 1 + rng.poisson(size - 1, number))
        return number, which, len(which)

    counts = rng.poisson(rng.gamma(4, told["a day"] / 4, cards)[:, None], (cards, days))
    card, day = (np.repeat(each.ravel(), counts.ravel()) for each in np.indices(counts.shape))
    n = len(card)
    on_web, in_town = web[card, rng.integers(4, size=n)], near[card, rng.integers(8, size=n)]
    likes = np.where(rng.random(n) < told["online"], on_web, in_town)
    shop = np.where(rng.random(n) < 0.15, rng.integers(SHOPS, size=n), likes)
    pay(0, card, day + hours(peak[card], n), shop, usual[card] + price[shop])
    # Theft: one card, some hours, any shop.
    number, which, n = bunches("theft", 5)
    begin: Array = rng.integers(days, size=number) + hours(told["thief's hour"], number)
    card, shop = rng.integers(cards, size=number)[which], rng.integers(SHOPS, size=n)
    middle = usual[card] + price[shop] + told["thief's sum"]
    pay(1, card, begin[which] + rng.exponential(0.1, n), shop, middle)
    # Test: one shop online, one hour, many cards, small sums.
    number, which, n = bunches("test", 8)
    begin, shop = days * rng.random(number), rng.integers(WEB, size=number)[which]
    pay(2, rng.integers(cards, size=n), begin[which] + rng.random(n) / 24, shop, told["test's sum"])
    # Takeover: one card, two weeks, online.
    number, which, n = bunches("takeover", 6)
    card, first = (rng.integers(low, high, number)[which] for low, high in ((0, cards), (-14, days)))
    shop, when = rng.integers(WEB, size=n), first + rng.integers(14, size=n) + hours(told["thief's hour"], n)
    pay(3, card, when, shop, usual[card] + price[shop] + told["taker's sum"])
    table = pd.concat(parts).query("0 <= time < @days").sort_values("time", ignore_index=True)
    return table.assign(online=table.shop < WEB, x=place[table.shop, 0], y=place[table.shop, 1])


class _Past:
    """For each payment, those of its group before it, within so many days: how many, and their mean."""

    def __init__(self, group: Array, when: Array):
        self.order, self.at = np.lexsort((when, group)), np.arange(len(when))
        group = group[self.order]
        self.first, self.key = np.searchsorted(group, group), 1e3 * group + when[self.order]

    def _start(self, days: float) -> Array:
        return np.asarray(np.maximum(self.first, np.searchsorted(self.key, self.key - days)))

    def back(self, values: Array) -> Array:
        """In the payments' own order."""
        found = np.empty_like(values)
        found[self.order] = values
        return found

    def count(self, days: float = 900) -> Array:
        return self.back(self.at - self._start(days))

    def mean(self, values: Array, days: float = 900) -> Array:
        """0 where nothing came before."""
        sums = np.concatenate([[0], np.cumsum(values[self.order], dtype=float)])
        start = self._start(days)
        return self.back((sums[self.at] - sums[start]) / np.maximum(self.at - start, 1))


def features(payments: pd.DataFrame) -> pd.DataFrame:
    """What is known when a payment comes in, from it and from those before it: float32, in their order."""
    when, amount = payments.time.to_numpy(), np.log(payments.amount.to_numpy())
    x, y, near = payments.x.to_numpy(), payments.y.to_numpy(), ~payments.online.to_numpy()
    cosine, sine, hour = np.cos(2 * np.pi * when), np.sin(2 * np.pi * when), 1 / 24
    number, place = payments.card.to_numpy(), payments.shop.to_numpy()
    card, shop, both = (_Past(group, when) for group in (number, place, SHOPS * number + place))
    seen = card.mean(near)
    apart = [each - card.mean(each * near) / np.maximum(seen, 1e-9) for each in (x, y)]
    last = card.back(np.where(card.at > card.first, np.diff(card.key, prepend=0), 30))
    lately = np.where(shop.count(hour) > 0, shop.mean(amount, hour) - shop.mean(amount), 0)
    found = {
        "amount": amount,
        "cosine of the hour": cosine,
        "sine of the hour": sine,
        "online": ~near,
        "amount over the card's": amount - card.mean(amount),
        "amount over the shop's": amount - shop.mean(amount),
        "card, last hour": np.log1p(card.count(hour)),
        "card, last day": np.log1p(card.count(1)),
        "card, last week": np.log1p(card.count(7)),
        "shop, last hour": np.log1p(shop.count(hour)),
        "shop, last week": np.log1p(shop.count(7)),
        "shop's amounts, last hour": lately,
        "since the card's last": np.log(last + 1e-3),
        "away from the card's places": np.where(near & (seen > 0), np.hypot(*apart), 0),
        "card in this shop": np.log1p(both.count()),
        "at the card's hours": cosine * card.mean(cosine) + sine * card.mean(sine),
    }
    return pd.DataFrame(found, index=payments.index).astype("float32")
