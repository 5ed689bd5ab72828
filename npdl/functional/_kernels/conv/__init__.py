"""Four algorithms of one operation, the correlation of images with a kernel."""
