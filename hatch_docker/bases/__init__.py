"""Where FROM comes from: a registry, a layout, or Debian itself."""
