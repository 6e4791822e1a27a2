// Schema of the resampling of images; documented in fsdbev/layers/resample.py.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(fsdbev, m) {
  m.def(
      "resample_image("
      "Tensor image, "     // (height, width, 3) uint8
      "SymInt[] resized, "  // width, height
      "SymInt[] crop, "     // left, top
      "SymInt[] output, "   // W, H
      "bool flip, "
      "SymInt[] turn"  // empty, or six numbers in 1/65536 px
      ") -> Tensor");  // (3, H, W)
}
