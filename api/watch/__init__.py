"""Watching requests: what each was about, one line of log, metrics, health."""
