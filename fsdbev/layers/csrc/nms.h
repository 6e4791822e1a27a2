// Argument checks and box geometry of rotated IoU and NMS, shared by the CPU and the CUDA kernels.
// Everything is in double and compiled without fused multiply-add.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <cstdint>

namespace fsdbev {

// Overlaps below this fraction of the sum of both areas count as rounding errors, not as overlap.
constexpr double kRounding = 1e-12;

C10_HOST_DEVICE inline bool is_finite(double value) {
  return value - value == 0;
}

// NaN stays NaN.
C10_HOST_DEVICE inline double clamp(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

// A rotated rectangle with precomputed values. proper: it is valid, see fsdbev/layers/nms.py.
struct BevBox {
  double x, y, half_length, half_width, cos, sin, radius, area;
  bool proper;
};

// Reads x, y, l, w, yaw. With centers_only, x and y must be finite and the rest is ignored.
C10_HOST_DEVICE inline BevBox read_box(const double* row, bool centers_only) {
  const double x = row[0], y = row[1];
  if (centers_only) {
    return {x, y, 0, 0, 1, 0, 0, 0, is_finite(x) && is_finite(y)};
  }
  const double length = row[2], width = row[3], yaw = row[4], area = length * width;
  const bool proper =
      is_finite(x) && is_finite(y) && is_finite(yaw) && length > 0 && width > 0 && area > 0 && is_finite(area);
  return {x, y, length / 2, width / 2, cos(yaw), sin(yaw), hypot(length, width) / 2, area, proper};
}

// Returns the fraction of the line from start to stop, 0 .. 1, at which it passes level.
C10_HOST_DEVICE inline double crossing(double start, double stop, double level) {
  const double run = stop - start;
  return clamp((level - start) / (run == 0 ? 1.0 : run), 0.0, 1.0);
}

// Integral of clamp(y, -half_y, half_y) dx along an edge, x clipped to +-half_x.
C10_HOST_DEVICE inline double edge_integral(
    double x0,
    double y0,
    double x1,
    double y1,
    double half_x,
    double half_y) {
  const double left = crossing(x0, x1, -half_x), right = crossing(x0, x1, half_x);
  const double first = right < left ? right : left, last = right < left ? left : right;
  const double xa = clamp(x0 + (x1 - x0) * first, -half_x, half_x);
  const double xb = clamp(x0 + (x1 - x0) * last, -half_x, half_x);
  const double ya = y0 + (y1 - y0) * first, yb = y0 + (y1 - y0) * last;
  const double below = crossing(ya, yb, -half_y), above = crossing(ya, yb, half_y);
  const double stops[4] = {0.0, above < below ? above : below, above < below ? below : above, 1.0};
  double mean = 0, previous = clamp(ya, -half_y, half_y);
  for (int i = 1; i < 4; ++i) {
    const double height = clamp(ya + (yb - ya) * stops[i], -half_y, half_y);
    mean += (stops[i] - stops[i - 1]) * (previous + height) / 2;
    previous = height;
  }
  return (xb - xa) * mean;
}

// Returns the overlap of the intervals center +-half_a and +-half_b; not positive without overlap.
C10_HOST_DEVICE inline double common(double center, double half_a, double half_b) {
  const double left = center - half_a, right = center + half_a;
  return (right < half_b ? right : half_b) - (left > -half_b ? left : -half_b);
}

// Returns the intersection over union, or 0 if it is not above `floor` or a box is not proper. The
// overlap is the integral of -clamp(y) dx along the outline of a in the axes of b (Green's theorem).
// Two early exits skip most pairs: disjoint circumscribed circles, and too small an overlap of b with
// the bounding rectangle of a in the axes of b.
C10_HOST_DEVICE inline double rotated_iou(const BevBox& a, const BevBox& b, double floor) {
  const double dx = a.x - b.x, dy = a.y - b.y, reach = a.radius + b.radius;
  if (!a.proper || !b.proper || dx * dx + dy * dy > reach * reach) {
    return 0;
  }
  const double x = b.cos * dx + b.sin * dy, y = b.cos * dy - b.sin * dx;
  const double cos_turn = a.cos * b.cos + a.sin * b.sin, sin_turn = a.sin * b.cos - a.cos * b.sin;
  // Vectors from the center to the middle of the front (p, q) and of the left side (r, s) of a.
  const double p = cos_turn * a.half_length, q = sin_turn * a.half_length;
  const double r = -sin_turn * a.half_width, s = cos_turn * a.half_width;
  const double common_x = common(x, fabs(p) + fabs(r), b.half_length);
  const double common_y = common(y, fabs(q) + fabs(s), b.half_width);
  const double most = common_x > 0 && common_y > 0 ? common_x * common_y : 0.0, areas = a.area + b.area;
  if (most <= floor * (areas - most)) {
    return 0;
  }
  const double xs[4] = {x + p + r, x - p + r, x - p - r, x + p - r};
  const double ys[4] = {y + q + s, y - q + s, y - q - s, y + q - s};
  double overlap = 0;
  for (int i = 0; i < 4; ++i) {
    const int next = (i + 1) % 4;
    overlap -= edge_integral(xs[i], ys[i], xs[next], ys[next], b.half_length, b.half_width);
  }
  const double iou = overlap > kRounding * areas ? overlap / (areas - overlap) : 0.0;
  return iou > 1 ? 1.0 : iou;
}

// Returns whether a kept box suppresses a worse one: in a circle group if the squared distance of
// centers is at most the threshold, else if the IoU exceeds it. A threshold of NaN suppresses nothing.
C10_HOST_DEVICE inline bool suppresses(const BevBox& better, const BevBox& worse, bool is_circle, double threshold) {
  if (!better.proper || !worse.proper) {
    return false;
  }
  if (is_circle) {
    const double dx = better.x - worse.x, dy = better.y - worse.y;
    return dx * dx + dy * dy <= threshold;
  }
  return rotated_iou(better, worse, threshold) > threshold;
}

inline void check_boxes(const at::Tensor& boxes, const char* name, const char* shape, bool has_dimensions) {
  TORCH_CHECK_VALUE(
      has_dimensions && boxes.size(-1) == 5, name, " must be ", shape, " of x, y, l, w, yaw, got ", boxes.sizes());
  TORCH_CHECK_VALUE(boxes.is_floating_point(), name, " must be floating point, got ", boxes.scalar_type());
}

inline void check_rotated_iou(const at::Tensor& boxes_a, const at::Tensor& boxes_b) {
  check_boxes(boxes_a, "boxes_a", "(..., M, 5)", boxes_a.dim() >= 2);
  check_boxes(boxes_b, "boxes_b", "(..., K, 5)", boxes_b.dim() >= 2);
  const auto groups_a = boxes_a.sizes().slice(0, boxes_a.dim() - 2);
  const auto groups_b = boxes_b.sizes().slice(0, boxes_b.dim() - 2);
  TORCH_CHECK_VALUE(
      groups_a == groups_b, "boxes_a and boxes_b must agree but for their number, got ", boxes_a.sizes(), " and ",
      boxes_b.sizes());
  TORCH_CHECK_VALUE(
      boxes_a.device() == boxes_b.device(), "boxes_b is on ", boxes_b.device(), ", boxes_a on ", boxes_a.device());
}

inline void check_grouped_nms(
    const at::Tensor& boxes,
    const at::Tensor& scores,
    const at::Tensor& thresholds,
    const at::Tensor& is_circle,
    int64_t max_input,
    int64_t max_output) {
  check_boxes(boxes, "boxes", "(G, M, 5)", boxes.dim() == 3);
  const auto check = [&](const at::Tensor& tensor, const char* name, at::IntArrayRef sizes) {
    TORCH_CHECK_VALUE(
        tensor.sizes() == sizes, name, " must be ", sizes, " beside boxes ", boxes.sizes(), ", got ", tensor.sizes());
    TORCH_CHECK_VALUE(
        tensor.device() == boxes.device(), name, " is on ", tensor.device(), ", boxes on ", boxes.device());
  };
  check(scores, "scores", {boxes.size(0), boxes.size(1)});
  check(thresholds, "thresholds", {boxes.size(0)});
  check(is_circle, "is_circle", {boxes.size(0)});
  TORCH_CHECK_VALUE(scores.is_floating_point(), "scores must be floating point, got ", scores.scalar_type());
  TORCH_CHECK_VALUE(
      thresholds.is_floating_point(), "thresholds must be floating point, got ", thresholds.scalar_type());
  TORCH_CHECK_VALUE(is_circle.scalar_type() == at::kBool, "is_circle must be bool, got ", is_circle.scalar_type());
  TORCH_CHECK_VALUE(max_input >= 0, "max_input must not be negative, got ", max_input);
  TORCH_CHECK_VALUE(max_output >= 0, "max_output must not be negative, got ", max_output);
}

}  // namespace fsdbev
