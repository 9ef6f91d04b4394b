"""Software bills of materials (SBOMs)."""
