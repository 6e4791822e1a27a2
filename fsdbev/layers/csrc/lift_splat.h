// What the CPU and the CUDA kernels of lift_splat share: shapes, checks and the frustum geometry.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <limits>

#if defined(__CUDACC__)
#define FSDBEV_HOST_DEVICE __host__ __device__
#else
#define FSDBEV_HOST_DEVICE
#endif

namespace fsdbev {

// Sizes of one call, by the letters of the Python docstring.
struct LiftSplatShape {
  int64_t sets, views, bins, height, width, channels, splats, outputs, cells;

  int64_t pixels() const { return height * width; }
};

// The frustum and the BEV grid. Everything is in double, in the order of operations of the PyTorch
// twin and compiled without fused multiply-add, so that a point near the border of a cell lands in
// the same cell on every device.
struct Frustum {
  double u_step, v_step, depth_start, depth_step;
  double lower[3], size[3];
  int64_t count_x, count_y;

  // Row-major 4x4 matrices of one splat; the cell y * X + x of frustum point (k, i, j), or -1.
  FSDBEV_HOST_DEVICE int64_t cell(
      const double* undo_image_aug,
      const double* image2bev,
      int64_t k,
      int64_t i,
      int64_t j) const {
    const double u = j * u_step, v = i * v_step, d = depth_start + depth_step * k;
    const double depth = affine(undo_image_aug + 8, u, v, d);
    const double x = affine(undo_image_aug, u, v, d) * depth;
    const double y = affine(undo_image_aug + 4, u, v, d) * depth;
    const double column = (affine(image2bev, x, y, depth) - lower[0]) / size[0];
    const double row = (affine(image2bev + 4, x, y, depth) - lower[1]) / size[1];
    const double level = (affine(image2bev + 8, x, y, depth) - lower[2]) / size[2];
    // Truncation toward zero: everything in (-1, 1) is cell 0. A NaN fails every comparison.
    const bool inside = column > -1 && column < count_x && row > -1 && row < count_y && level > -1 && level < 1;
    return inside ? static_cast<int64_t>(row) * count_x + static_cast<int64_t>(column) : -1;
  }

 private:
  FSDBEV_HOST_DEVICE static double affine(const double* row, double a, double b, double c) {
    return row[0] * a + row[1] * b + row[2] * c + row[3];
  }
};

inline LiftSplatShape check_lift_splat(
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    const at::Tensor& output,
    int64_t num_outputs,
    at::IntArrayRef count) {
  TORCH_CHECK_VALUE(weights.dim() == 5, "weights must be (S, V, D, h, w), got ", weights.sizes());
  TORCH_CHECK_VALUE(context.dim() == 4, "context must be (V, C, h, w), got ", context.sizes());
  TORCH_CHECK_VALUE(view.dim() == 1, "view must be (P,), got ", view.sizes());
  TORCH_CHECK_VALUE(
      count.size() == 3 && count[0] > 0 && count[1] > 0 && count[2] == 1,
      "count must be (X, Y, 1) with positive X and Y, got ",
      count);
  TORCH_CHECK_VALUE(num_outputs >= 0, "num_outputs must not be negative, got ", num_outputs);
  LiftSplatShape shape{
      weights.size(0), weights.size(1), weights.size(2), weights.size(3), weights.size(4),
      context.size(1), view.size(0), num_outputs, count[0] * count[1]};

  const auto check = [&](const at::Tensor& tensor, const char* name, at::IntArrayRef sizes) {
    TORCH_CHECK_VALUE(
        tensor.sizes() == sizes, name, " must be ", sizes, " beside weights ", weights.sizes(),
        " and view ", view.sizes(), ", got ", tensor.sizes());
    TORCH_CHECK_VALUE(
        tensor.device() == weights.device(), name, " is on ", tensor.device(), ", weights on ", weights.device());
  };
  check(foreground, "foreground", {shape.sets, shape.views, shape.height, shape.width});
  check(context, "context", {shape.views, shape.channels, shape.height, shape.width});
  check(undo_image_aug, "undo_image_aug", {shape.splats, 4, 4});
  check(image2bev, "image2bev", {shape.splats, 4, 4});
  check(view, "view", {shape.splats});
  check(output, "output", {shape.splats});
  for (const auto& tensor : {weights, foreground, context, undo_image_aug, image2bev}) {
    TORCH_CHECK_VALUE(
        tensor.is_floating_point(), "features and matrices must be floating point, got ", tensor.scalar_type());
  }
  for (const auto& index : {view, output}) {
    TORCH_CHECK_VALUE(
        index.scalar_type() == at::kLong, "view and output must be int64, got ", index.scalar_type());
  }
  constexpr int64_t limit = std::numeric_limits<int32_t>::max();
  TORCH_CHECK_VALUE(
      shape.cells <= limit && shape.pixels() <= limit,
      "too large a BEV grid or feature map: ", shape.cells, " cells, ", shape.pixels(), " pixels");
  return shape;
}

inline void check_lift_splat_grad(const at::Tensor& grad, const LiftSplatShape& shape, at::IntArrayRef count) {
  const int64_t sizes[] = {shape.sets, shape.outputs, shape.channels, count[1], count[0]};
  TORCH_CHECK_VALUE(grad.sizes() == at::IntArrayRef(sizes), "grad must be ", at::IntArrayRef(sizes), ", got ", grad.sizes());
}

inline Frustum make_frustum(
    const LiftSplatShape& shape,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count) {
  TORCH_CHECK_VALUE(image_size.size() == 2, "image_size must be (H, W), got ", image_size);
  TORCH_CHECK_VALUE(lower.size() == 3 && size.size() == 3, "lower and size must be x, y, z, got ", lower, " and ", size);
  const auto step = [](int64_t pixels, int64_t features) {
    return features > 1 ? static_cast<double>(pixels - 1) / static_cast<double>(features - 1) : 0.0;
  };
  return Frustum{
      step(image_size[1], shape.width), step(image_size[0], shape.height), depth_start, depth_step,
      {lower[0], lower[1], lower[2]}, {size[0], size[1], size[2]}, count[0], count[1]};
}

// Sums are in float32, or in float64 where weights or context are float64.
inline at::ScalarType sum_type(const at::Tensor& weights, const at::Tensor& context) {
  const bool is_double = weights.scalar_type() == at::kDouble || context.scalar_type() == at::kDouble;
  return is_double ? at::kDouble : at::kFloat;
}

}  // namespace fsdbev
