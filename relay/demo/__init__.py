"""The self-contained demonstration: sinks, a small DNS, the story it tells."""
