"""Subscriptions: what changed, told as it changes, over WebSocket and server-sent events."""
