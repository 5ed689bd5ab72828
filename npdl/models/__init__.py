"""Models of other libraries, with their weights: BERT, GPT-2, Llama and ViT, and ResNet.

>>> import npdl.functional as F
>>> from npdl import models
>>> config = {"model_type": "gpt2", "vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 1}
>>> model = models.gpt2(config | {"n_head": 2})
>>> model.out_shape((5,))
(5, 50)
"""

from npdl.models._bert import bert
from npdl.models._gpt2 import gpt2
from npdl.models._llama import llama
from npdl.models._pretrained import pretrained
from npdl.models._resnet import resnet
from npdl.models._vit import vit

__all__ = ["bert", "gpt2", "llama", "pretrained", "resnet", "vit"]
