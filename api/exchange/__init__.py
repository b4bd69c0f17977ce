"""Histories in from other systems and out to other tools."""
