"""Argument orders and option names of other libraries, for the errors of wrong calls."""

__all__ = ["ORDERS", "REASONS", "SIZE", "WORDS"]

SIZE = "the size of the input follows from the data"

# Argument orders of PyTorch or NumPy that differ from npdl's, with npdl's names. An empty name
# means an argument that npdl infers from the data.
ORDERS = {
    "dense": ("", "units", "bias"),
    "conv1d": ("", "filters", "kernel_size", "stride", "padding", "dilation", "groups", "bias"),
    "conv2d": ("", "filters", "kernel_size", "stride", "padding", "dilation", "groups", "bias"),
    "conv2d_transpose": ("", "filters", "kernel_size", "stride", "padding", "output_padding"),
    "rnn": ("", "units"),
    "lstm": ("", "units"),
    "gru": ("", "units"),
    "batch_norm": ("", "epsilon", "momentum"),
    "layer_norm": ("", "epsilon"),
    "rms_norm": ("", "epsilon"),
    "group_norm": ("groups", "", "epsilon"),
    "multi_head_attention": ("", "heads", "dropout", "bias"),
    "transformer_encoder_block": ("", "heads", "hidden_units", "dropout"),
    "transformer_decoder_block": ("", "heads", "hidden_units", "dropout"),
    "normal": ("mean", "std"),
    "truncated_normal": ("mean", "std"),
}

# Option names of other libraries and npdl's names; the first name that a constructor has counts.
WORDS = {
    "alpha": ("slope", "decay"),
    "bias_initializer": ("bias_init",),
    "dim": ("axis", "axes"),
    "dim_feedforward": ("hidden_units",),
    "dilation_rate": ("dilation",),
    "embedding_dim": ("units",),
    "eps": ("epsilon",),
    "go_backwards": ("reverse",),
    "hidden_size": ("units",),
    "input_dim": ("vocabulary",),
    "kernel_initializer": ("weight_init",),
    "kernel_size": ("size",),
    "lr": ("learning_rate",),
    "momentum": ("decay",),
    "negative_slope": ("slope",),
    "nhead": ("heads",),
    "norm_first": ("pre_norm",),
    "num_embeddings": ("vocabulary",),
    "num_heads": ("heads",),
    "num_key_value_heads": ("kv_heads",),
    "out_channels": ("filters",),
    "out_features": ("units",),
    "output_dim": ("units",),
    "p": ("rate", "dropout"),
    "pool_size": ("size",),
    "recurrent_initializer": ("recurrent_weight_init",),
    "rho": ("decay",),
    "rope_theta": ("rotary",),
    "sliding_window": ("window",),
    "stddev": ("std",),
    "use_bias": ("bias",),
    "vocab_size": ("vocabulary",),
}

# Reasons why npdl does not have an option.
REASONS = {
    "batch_first": "sequences are (batch, time, features)",
    "bidirectional": "bidirectional(…) runs a layer in both directions",
    "d_model": SIZE,
    "data_format": "images are (batch, channels, height, width)",
    "embed_dim": SIZE,
    "in_channels": SIZE,
    "in_features": SIZE,
    "inplace": "no layer writes to its input",
    "input_dim": SIZE,
    "input_shape": SIZE,
    "input_size": SIZE,
    "normalized_shape": SIZE,
    "num_channels": SIZE,
    "num_features": SIZE,
    "momentum": "momentum(0.1, decay=0.9) is a separate optimizer",
    "num_layers": "stack(…) applies several layers one after another",
    "weight_decay": "add_decayed_weights(1e-4) is a separate transform, for chain(…)",
}
