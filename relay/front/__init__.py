"""Inbound SMTP: listener, session, path parsing, policy, Received header."""
