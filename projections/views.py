"""All views of the house: importing this module puts every one of them into `VIEWS`."""

from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.history import HISTORY
from projections.view import VIEWS

__all__ = ["CLOCKS", "COMPLAINTS", "HISTORY", "VIEWS"]
