"""All views of the house: importing this module puts every one of them into `VIEWS`."""

from projections.clock import CLOCKS
from projections.complaint import COMPLAINTS
from projections.glass import GLASSES
from projections.history import HISTORY
from projections.view import VIEWS

OF_CASES = (COMPLAINTS, CLOCKS, HISTORY)
"""The views that show complaint cases, and lead from one to the other: who waits for one of them waits for all."""

__all__ = ["CLOCKS", "COMPLAINTS", "GLASSES", "HISTORY", "OF_CASES", "VIEWS"]
