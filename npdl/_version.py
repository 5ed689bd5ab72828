"""The version, which stands here once."""

__version__ = "1.0.0.dev0"
