"""Files: `.npz` and `.safetensors`, their limits, and their replacement as a whole."""
