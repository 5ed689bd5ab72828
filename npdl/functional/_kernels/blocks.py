"""All block sizes. A block size keeps the working set of a computation in a cache.

Unless a comment says otherwise, a size is a count of array elements, and the bytes are for float32.
The sizes come from measurements. Another size can change the order of a sum, and so the bits.
"""

# A dozen temporaries of an activation with many steps: 64 KB each, in the second-level cache.
ACTIVATION_BLOCK = 1 << 14
# The four arrays of a rectifier's backward pass: 256 KB each, in the second-level cache.
RECTIFIER_BLOCK = 1 << 16
# Logits, exponentials and gradients of a softmax: 256 KB each, in the second-level cache.
SOFTMAX_BLOCK = 1 << 16
# The weights of attention, which several passes share: 512 KB, in the second-level cache.
ATTENTION_BLOCK = 1 << 17
# Rows of a normalization, which several passes share: 512 KB, in the second-level cache.
NORMALIZATION_BLOCK = 1 << 17
# Rows of a normalization in one sum: a float32 sum of more rows loses digits.
NORMALIZATION_ROWS = 4096
# Images of a pooling and its temporaries: 512 KB each, in the second-level cache.
IMAGE_BLOCK = 1 << 17
# Pixels and images of one piece when arrays change their memory order: the lines of memory that
# the piece touches stay in the first-level cache.
LAYOUT_PIXELS, LAYOUT_IMAGES = 2048, 16
# Patches of a convolution: 8 MB, more than a second-level cache. Many columns matter more for the
# matrix product: one thread writes the patches, all threads read them.
PATCH_BLOCK = 1 << 21
# Shifted rows, the shared memory of the patches of several rows: 8 MB, for the same reason.
ROW_PATCH_BLOCK = 1 << 21
# Patches of images with few channels: 256 KB, a part of the second-level cache.
FEW_CHANNELS_BLOCK = 1 << 16
# A part of a row in Winograd's algorithm: its workspaces of this size fit the caches.
WINOGRAD_BLOCK = 1 << 16
# Arrays with fewer elements are joined before an update: their calls cost more than arithmetic.
UPDATE_JOINED = 1 << 14
# Parameter, gradient, slots and temporaries of an update: 256 KB each, in the second-level cache.
UPDATE_BLOCK = 1 << 16
# Bytes of a message between ranks: a message is added while it is still in the cache.
MESSAGE_BYTES = 1 << 21
