"""Attention and position encodings."""

from npdl.functional.layers.attention._multi_head import multi_head_attention
from npdl.functional.layers.attention._positions import learned_positions, sinusoidal_positions

__all__ = [
    "learned_positions",
    "multi_head_attention",
    "sinusoidal_positions",
]
