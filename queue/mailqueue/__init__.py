"""The durable mail queue: a library of the standard library only. Specification: queue/README.md."""
