"""Four algorithms for one operation, the correlation of images with a kernel."""
