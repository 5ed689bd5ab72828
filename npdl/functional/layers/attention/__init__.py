"""Attention and position encodings."""

from npdl.functional.layers.attention._multi_head import multi_head_attention
from npdl.functional.layers.attention._positions import learned_positions, sinusoidal_positions
from npdl.functional.layers.attention._tokens import class_token, first_step

__all__ = [
    "class_token",
    "first_step",
    "learned_positions",
    "multi_head_attention",
    "sinusoidal_positions",
]
