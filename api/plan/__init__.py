"""The planner: operations over views compiled to SQL that writes the answer."""
