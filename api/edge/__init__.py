"""The HTTP side of GraphQL: requests, answers, faults."""
