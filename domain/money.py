"""Money: yuan with two places, never a float."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from domain.kernel import Refused

FEN = Decimal("0.01")
YUAN_MAX = Decimal("999999999999.99")


@dataclass(frozen=True, order=True)
class Money:
    """An amount of yuan, zero or more, exact to the fen. `Money.of` is the door for what people type."""

    yuan: Decimal

    def __post_init__(self) -> None:
        assert self.yuan == self.yuan.quantize(FEN), "money has two places"
        object.__setattr__(self, "yuan", self.yuan.quantize(FEN))

    @classmethod
    def of(cls, amount: str | int | Decimal, field: str = "amount") -> Money:
        """`amount` in yuan, or a refusal naming the field: no number, negative, too large, more than two places."""
        try:
            yuan = Decimal(amount)
        except (InvalidOperation, ValueError):
            raise Refused("money.not_a_number", "Write the amount in yuan, for example 1200.50.", field=field) from None
        if not yuan.is_finite():
            raise Refused("money.not_a_number", "Write the amount in yuan, for example 1200.50.", field=field)
        if yuan < 0:
            raise Refused("money.negative", "The amount cannot be less than zero.", field=field)
        if yuan > YUAN_MAX:
            raise Refused("money.too_large", f"The amount is larger than {YUAN_MAX} yuan.", field=field)
        if yuan != yuan.quantize(FEN):
            raise Refused("money.places", "The amount has more than two places after the point.", field=field)
        return cls(yuan.quantize(FEN))

    def __add__(self, other: Money) -> Money:
        return Money(self.yuan + other.yuan)

    def __str__(self) -> str:
        return f"¥{self.yuan}"


NOTHING = Money(Decimal("0.00"))

__all__ = ["NOTHING", "Money"]
