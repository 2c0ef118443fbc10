"""What a model's response is called in the report, and how its means and differences print.

In: a column, its words and its unit.  Out: `Measure`, which turns numbers into text.  Knows no model and no table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psychostats.document import format_value


def percent(value: float) -> str:
    """Print a probability, ``84.2 %``."""
    return format_value(value, "percent", 1)


def points(value: float) -> str:
    """Print a difference of probabilities in percentage points, with its sign."""
    return _signed(100 * value, 1)


def number(value: float, digits: int = 2) -> str:
    """Print a number with a true minus sign."""
    return format_value(value, "number", digits)


@dataclass(frozen=True)
class Measure:
    """A response in words.

    Parameters
    ----------
    column
        Where it stands in the trials.
    noun
        What its mean is called within a sentence: ``accuracy``, ``the share of yes answers``, ``mean response time``.
    unit
        Of a measurement or rating; empty for an answer of 0 or 1, whose mean is a share and prints in percent.
    digits
        Decimals of a measurement or rating.
    """

    column: str
    noun: str
    unit: str = ""
    digits: int = 2

    @property
    def is_share(self) -> bool:
        """Whether the mean is a probability."""
        return not self.unit

    @property
    def is_accuracy(self) -> bool:
        """Whether answers are right or wrong."""
        return self.column == "correct" and self.is_share

    @property
    def bare(self) -> str:
        """The noun without its article."""
        return self.noun.removeprefix("the ")

    @property
    def title(self) -> str:
        """The noun without its article, as a heading begins."""
        return self.bare[:1].upper() + self.bare[1:]

    @property
    def axis(self) -> str:
        """The title with the unit, for an axis or a column."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def units(self) -> str:
        """The unit of a difference, in words."""
        return self.unit or "percentage points"

    @property
    def short(self) -> str:
        """The unit of a difference where there is little room."""
        return self.unit or "points"

    @property
    def factor(self) -> float:
        """What a difference is multiplied by to be in `units`."""
        return 100.0 if self.is_share else 1.0

    def value(self, mean: float) -> str:
        """Print a mean; without a unit beside it, which tables name in their heads."""
        return percent(mean) if self.is_share else number(mean, self.digits)

    def value_interval(self, row: Mapping[Any, Any]) -> str:
        """Print a mean with its interval."""
        low, high = self.value(row["conf_low"]), self.value(row["conf_high"])
        return f"{self.value(row['estimate'])} [{low}, {high}]"

    def difference(self, value: float) -> str:
        """Print a difference of means in `units`, with its sign."""
        return points(value) if self.is_share else _signed(value, self.digits)

    def width(self, value: float, digits: int | None = None) -> str:
        """Print a width or the size of a difference in `units`, without its sign."""
        own = 1 if self.is_share else self.digits
        return format_value(self.factor * value, "number", own if digits is None else digits)

    def interval(self, row: Mapping[Any, Any]) -> str:
        """Print a difference with its interval in `units`, ``+3.4 [+1.0, +5.7]``."""
        low, high = self.difference(row["conf_low"]), self.difference(row["conf_high"])
        return f"{self.difference(row['estimate'])} [{low}, {high}]"


ACCURACY = Measure("correct", "accuracy")


def points_interval(row: Mapping[Any, Any]) -> str:
    """Print a difference of probabilities with its interval in percentage points, ``+3.4 [+1.0, +5.7]``."""
    return ACCURACY.interval(row)


def _signed(value: float, digits: int) -> str:
    text, zero = format_value(value, "number", digits), format_value(0.0, "number", digits)
    if text == zero and abs(value) >= 0.5 * 10.0 ** -(digits + 1):  # a verdict hangs on which side of zero a limit is
        text = format_value(value, "number", digits + 1)
    return text if text.startswith("−") or text == zero else f"+{text}"
