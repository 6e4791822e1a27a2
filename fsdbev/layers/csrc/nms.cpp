// Schemas of rotated IoU and non-maximum suppression; see fsdbev/layers/nms.py.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(fsdbev, m) {
  m.def("rotated_iou(Tensor boxes_a, Tensor boxes_b) -> Tensor");
  m.def(
      "rotated_nms(Tensor boxes, Tensor scores, float iou_threshold, "
      "SymInt? max_input=None, SymInt? max_output=None) -> Tensor");
  m.def(
      "circle_nms(Tensor centers, Tensor scores, float squared_distance, "
      "SymInt? max_input=None, SymInt? max_output=None) -> Tensor");
}
