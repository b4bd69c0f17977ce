"""The library's own test cases, run against our recorders: each test a fresh institution."""

from __future__ import annotations

import itertools
import string
from typing import ClassVar

import pytest
from eventsourcing.tests.persistence import AggregateRecorderTestCase, ApplicationRecorderTestCase

from domain.store.casebook import House
from domain.store.recorder import EventRecorder, StreamRecorder

_codes = ("LIB" + "".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=3))


class Given:
    """Hands pytest's fixtures to the library's unittest classes."""

    house: ClassVar[House]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _given(cls, house: House) -> None:
        cls.house = house


class TestStreamRecorder(Given, AggregateRecorderTestCase):
    def create_recorder(self) -> StreamRecorder:
        return StreamRecorder(self.house.pool, next(_codes))


class TestEventRecorder(Given, ApplicationRecorderTestCase[EventRecorder]):
    def create_recorder(self) -> EventRecorder:
        return EventRecorder(self.house.pool, next(_codes))

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()
