"""`hatch-docker doctor`: checks of this machine."""
