"""What happened, told once: events.py writes the log line and moves the metric in one function."""
