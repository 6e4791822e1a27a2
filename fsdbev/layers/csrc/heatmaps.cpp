// Schemas of the heatmaps of training targets; documented in fsdbev/layers/heatmaps.py.
// M boxes, V views, C classes, H x W network image, P peaks, Y x X BEV grid.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(fsdbev, m) {
  m.def(
      "elliptical_heatmaps("
      "Tensor boxes, "         // (M, 4) x1, y1, x2, y2
      "Tensor view, "          // (M,) int64
      "Tensor class_ids, "     // (M,) int64
      "Tensor image_aug, "     // (V, 4, 4)
      "Tensor source_sizes, "  // (V, 2) int64 width, height
      "SymInt num_classes, "
      "SymInt[] image_size, "  // H, W
      "SymInt stride"
      ") -> Tensor");  // (V, C, H / stride, W / stride)
  m.def(
      "draw_gaussians("
      "Tensor xy, "      // (P, 2) int64
      "Tensor radius, "  // (P,) int64
      "Tensor plane, "   // (P,) int64
      "SymInt planes, "
      "SymInt[] shape"  // Y, X
      ") -> Tensor");  // (planes, Y, X)
}
