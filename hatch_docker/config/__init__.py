"""The table [tool.hatch-docker]."""
