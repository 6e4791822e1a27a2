// Schemas of rotated IoU and non-maximum suppression; documented in fsdbev/layers/nms.py.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(fsdbev, m) {
  m.def(
      "rotated_iou("
      "Tensor boxes_a, "  // (..., M, 5)
      "Tensor boxes_b"    // (..., K, 5)
      ") -> Tensor");     // (..., M, K)
  m.def(
      "grouped_nms("
      "Tensor boxes, "       // (G, M, 5)
      "Tensor scores, "      // (G, M)
      "Tensor thresholds, "  // (G,)
      "Tensor is_circle, "   // (G,) bool
      "SymInt max_input, SymInt max_output"
      ") -> (Tensor, Tensor)");  // (G, max_output) int64 indices, (G,) int64 counts
}
