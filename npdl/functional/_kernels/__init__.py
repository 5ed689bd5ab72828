"""Arrays in, arrays out: the arithmetic of the layers, without messages for users."""
