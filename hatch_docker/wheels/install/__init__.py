"""From a wheel to the entries of a layer."""
