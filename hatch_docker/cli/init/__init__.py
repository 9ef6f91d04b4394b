"""`hatch-docker init`: the proposal for a project."""
