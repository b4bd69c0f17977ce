"""Yuan with two places, exact."""

from decimal import Decimal

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.money import Money
from tests.domain.given import refused


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("abc", "money.not_a_number"),
        ("NaN", "money.not_a_number"),
        ("Infinity", "money.not_a_number"),
        ("", "money.not_a_number"),
        ("-1", "money.negative"),
        ("1.005", "money.places"),
        ("1e40", "money.too_large"),
        ("1000000000000", "money.too_large"),
    ],
)
def test_what_is_no_amount_is_refused_naming_the_field(amount: str, code: str) -> None:
    with refused(code, "refund"):
        Money.of(amount, "refund")


@for_all(st.integers(0, 10**14 - 1), st.integers(0, 10**12))
def test_amounts_are_exact_to_the_fen(a: int, b: int) -> None:
    one, other = (Money.of(Decimal(n) / 100) for n in (a, b))
    assert (one + other).yuan * 100 == a + b
    assert (one < other) == (a < b)


def test_an_amount_is_kept_with_two_places() -> None:
    assert str(Money.of("1200.5")) == "¥1200.50"
    assert Money.of(1200) == Money.of("1200.00") == Money(Decimal("1200"))
