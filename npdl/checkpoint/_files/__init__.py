"""File formats `.npz` and `.safetensors`, their limits, and atomic replacement of files."""
