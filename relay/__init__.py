"""A store-and-forward mail relay. The life of a message, with file names: relay/README.md."""

__version__ = "0.1.0"
