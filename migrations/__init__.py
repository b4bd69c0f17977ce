"""Numbered SQL, applied once and digest-checked."""
