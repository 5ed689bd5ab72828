"""Combinators: layers composed of layers; each declares its children once."""

from npdl.functional.combinators._bidirectional import bidirectional, one_step
from npdl.functional.combinators._declared import parts
from npdl.functional.combinators._decoding import decode_step
from npdl.functional.combinators._graph import graph
from npdl.functional.combinators._joins import add, concatenate, multiply
from npdl.functional.combinators._parallel import parallel
from npdl.functional.combinators._scan import scan
from npdl.functional.combinators._serial import freeze, residual, serial
from npdl.functional.combinators._stack import stack
from npdl.functional.combinators._transformer import (
    transformer_decoder_block,
    transformer_encoder_block,
)

__all__ = [
    "add",
    "bidirectional",
    "concatenate",
    "decode_step",
    "freeze",
    "graph",
    "multiply",
    "one_step",
    "parallel",
    "parts",
    "residual",
    "scan",
    "serial",
    "stack",
    "transformer_decoder_block",
    "transformer_encoder_block",
]
