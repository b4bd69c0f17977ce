"""`@rule("CC-28")` names the rules of the catalogue that a test would catch being broken."""

import pytest

rule = pytest.mark.rule
