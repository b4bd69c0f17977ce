"""Numbers: gapless, restarting each month, wider when two digits do not do."""

from datetime import UTC, datetime

from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.complaint import COMPLAINT, ComplaintAccepted
from domain.kernel import replay
from domain.series import SERIES, NumberIssued, complaint_number, complaint_number_in, issue, month, numbered, series_id
from tests.domain.given import BJ, accept, given, received, stamp
from tests.rules import rule


@rule("CC-07")
def test_a_number_is_code_year_month_and_running_number() -> None:
    assert complaint_number("BJ", 2021, 1, 7) == "BJ20210107"
    assert complaint_number_in("BJ", "2021-01", 7) == "BJ20210107"


@rule("CC-08")
def test_past_99_the_number_is_widened() -> None:
    assert [complaint_number("BJ", 2021, 12, n) for n in (99, 100, 1000)] == [
        "BJ20211299",
        "BJ202112100",
        "BJ2021121000",
    ]


@rule("CC-08")
def test_the_month_is_that_of_the_institution() -> None:
    eve = datetime(2026, 1, 31, 16, 30, tzinfo=UTC)
    assert month(eve, "Asia/Shanghai") == "2026-02"
    assert series_id("BJ", "complaint", "2026-01") != series_id("BJ", "complaint", "2026-02")
    assert series_id("BJ", "complaint", "2026-01") != series_id("SY", "complaint", "2026-01")


@rule("CC-08")
@for_all(st.lists(st.booleans(), max_size=130))
def test_numbers_are_gapless_and_unique_whatever_is_asked_twice(answers: list[bool]) -> None:
    """A decision that comes to nothing uses no number."""
    events: list[NumberIssued] = []
    used: list[str] = []
    fact = received().then(accept()).events[-1]
    for decided in answers:
        known = replay(SERIES, events)

        def decide(n: int, decided: bool = decided) -> ComplaintAccepted | None:
            assert isinstance(fact, ComplaintAccepted)
            if decided:
                used.append(complaint_number_in(BJ.code, "2026-03", n))
            return fact if decided else None

        made = numbered(known, stamp(), decide, institution="BJ", series="complaint", period="2026-03")
        assert (made is not None) == decided
        events += [event for event in made or () if isinstance(event, NumberIssued)]
    assert [event.number for event in events] == list(range(1, sum(answers) + 1))
    assert [event.originator_version for event in events] == [event.number for event in events]
    assert len(set(used)) == len(used)


@rule("CC-07")
@rule("CC-09")
def test_the_accepted_case_bears_the_number_it_was_given() -> None:
    issued = issue(None, stamp(), institution="BJ", series="complaint", period="2026-03")
    number = complaint_number_in("BJ", issued.period, issued.number)
    told = received().then(accept(number=number))
    assert given(COMPLAINT, *told.events).number == "BJ20260301"
