"""The commands ``polaris-train`` and ``polaris``."""
