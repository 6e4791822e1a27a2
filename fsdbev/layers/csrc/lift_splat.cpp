// Schemas of lift_splat, frustum_cells and splat_cells, documented in fsdbev/layers/lift_splat.py.
// S weight sets, V views, P splats, D depth bins, C channels, h x w feature map,
// B outputs.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(fsdbev, m) {
  m.def(
      "lift_splat("
      "Tensor weights, "         // (S, V, D, h, w)
      "Tensor foreground, "      // (S, V, h, w)
      "Tensor context, "         // (V, C, h, w)
      "Tensor undo_image_aug, "  // (V, 4, 4)
      "Tensor image2bev, "       // (P, 4, 4)
      "Tensor view, "            // (P,) int64
      "Tensor output, "          // (P,) int64
      "SymInt num_outputs, "
      "SymInt[] image_size, "  // H, W
      "float depth_start, float depth_step, "
      "float[] lower, float[] size, SymInt[] count, "  // x, y, z
      "float depth_threshold, float foreground_threshold"
      ") -> Tensor");  // (S, B, C, Y, X)
  m.def(
      "lift_splat_backward("
      "Tensor grad, "  // (S, B, C, Y, X)
      "Tensor weights, Tensor foreground, Tensor context, "
      "Tensor undo_image_aug, Tensor image2bev, Tensor view, Tensor output, "
      "SymInt[] image_size, "
      "float depth_start, float depth_step, "
      "float[] lower, float[] size, SymInt[] count, "
      "float depth_threshold, float foreground_threshold"
      ") -> (Tensor, Tensor)");  // gradients of weights and of context
  m.def(
      "frustum_cells("
      "Tensor undo_image_aug, Tensor image2bev, Tensor view, "
      "SymInt num_bins, "
      "SymInt[] feature_size, "  // h, w
      "SymInt[] image_size, "
      "float depth_start, float depth_step, "
      "float[] lower, float[] size, SymInt[] count"
      ") -> Tensor");  // (P, D, h, w) int32
  m.def(
      "splat_cells("
      "Tensor weights, Tensor foreground, Tensor context, "
      "Tensor cells, "  // (P, D, h, w) int32
      "Tensor view, Tensor output, "
      "SymInt num_outputs, "
      "SymInt[] grid_size, "  // Y, X
      "float depth_threshold, float foreground_threshold"
      ") -> Tensor");  // (S, B, C, Y, X)
  m.def(
      "splat_cells_backward("
      "Tensor grad, "
      "Tensor weights, Tensor foreground, Tensor context, "
      "Tensor cells, Tensor view, Tensor output, "
      "SymInt[] grid_size, "
      "float depth_threshold, float foreground_threshold"
      ") -> (Tensor, Tensor)");
}
