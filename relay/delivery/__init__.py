"""Outbound: scheduler, lanes, connections, transactions, verdicts, the retry schedule."""
