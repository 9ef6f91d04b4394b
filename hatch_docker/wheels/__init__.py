"""Dependencies: the wheels and sdists that an image holds, where they come from, and how they are built."""
