// Sizes and argument checks of lift_splat, shared by the CPU and the CUDA kernels.
#pragma once

#include "frustum.h"

#include <array>

namespace fsdbev {

// Sizes of one call, see "Shapes" in fsdbev/layers/lift_splat.py.
struct LiftSplatShape {
  int64_t sets, views, bins, height, width, channels, splats, outputs, grid_height, grid_width;

  FSDBEV_HOST_DEVICE int64_t pixels() const { return height * width; }
  FSDBEV_HOST_DEVICE int64_t cells() const { return grid_height * grid_width; }
};

// Checks the arguments that lift_splat and splat_cells share.
inline LiftSplatShape check_splat(
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& view,
    const at::Tensor& output,
    int64_t num_outputs,
    at::IntArrayRef grid_size) {
  TORCH_CHECK_VALUE(weights.dim() == 5, "weights must be (S, V, D, h, w), got ", weights.sizes());
  TORCH_CHECK_VALUE(context.dim() == 4, "context must be (V, C, h, w), got ", context.sizes());
  TORCH_CHECK_VALUE(view.dim() == 1, "view must be (P,), got ", view.sizes());
  TORCH_CHECK_VALUE(num_outputs >= 0, "num_outputs must not be negative, got ", num_outputs);
  TORCH_CHECK_VALUE(num_outputs <= kMaxCells, "num_outputs must be at most ", kMaxCells, ", got ", num_outputs);
  TORCH_CHECK_VALUE(
      grid_size.size() == 2 && grid_size[0] > 0 && grid_size[1] > 0 && grid_size[0] <= kMaxCells / grid_size[1],
      "grid_size must be (Y, X) of 1 to ", kMaxCells, " cells, got ", grid_size);
  const LiftSplatShape shape{
      weights.size(0), weights.size(1), weights.size(2), weights.size(3), weights.size(4),
      context.size(1), view.size(0),    num_outputs,     grid_size[0],    grid_size[1]};

  const auto check = [&](const at::Tensor& tensor, const char* name, at::IntArrayRef sizes) {
    TORCH_CHECK_VALUE(
        tensor.sizes() == sizes, name, " must be ", sizes, " beside weights ", weights.sizes(),
        " and view ", view.sizes(), ", got ", tensor.sizes());
    TORCH_CHECK_VALUE(
        tensor.device() == weights.device(), name, " is on ", tensor.device(), ", weights on ", weights.device());
  };
  check(foreground, "foreground", {shape.sets, shape.views, shape.height, shape.width});
  check(context, "context", {shape.views, shape.channels, shape.height, shape.width});
  check(view, "view", {shape.splats});
  check(output, "output", {shape.splats});
  for (const auto& tensor : {weights, foreground, context}) {
    TORCH_CHECK_VALUE(
        tensor.is_floating_point(), "features must be floating point, got ", tensor.scalar_type());
  }
  for (const auto& index : {view, output}) {
    TORCH_CHECK_VALUE(
        index.scalar_type() == at::kLong, "view and output must be int64, got ", index.scalar_type());
  }
  check_feature_size(shape.height, shape.width);
  return shape;
}

// See fsdbev::make_frustum in frustum.h.
inline Frustum make_frustum(
    const LiftSplatShape& shape,
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count) {
  return make_frustum(
      undo_image_aug, image2bev, view, shape.views, shape.height, shape.width, image_size, depth_start, depth_step,
      lower, size, count);
}

inline void check_cells(const at::Tensor& cells, const at::Tensor& weights, const LiftSplatShape& shape) {
  const int64_t sizes[] = {shape.splats, shape.bins, shape.height, shape.width};
  TORCH_CHECK_VALUE(
      cells.sizes() == at::IntArrayRef(sizes), "cells must be ", at::IntArrayRef(sizes), ", got ", cells.sizes());
  TORCH_CHECK_VALUE(cells.scalar_type() == at::kInt, "cells must be int32, got ", cells.scalar_type());
  TORCH_CHECK_VALUE(
      cells.device() == weights.device(), "cells is on ", cells.device(), ", weights on ", weights.device());
}

// Sizes of (S, B, C, Y, X), the result.
inline std::array<int64_t, 5> bev_sizes(const LiftSplatShape& shape) {
  return {shape.sets, shape.outputs, shape.channels, shape.grid_height, shape.grid_width};
}

// As check_splat, for the gradient (S, B, C, Y, X) of the result.
inline LiftSplatShape check_splat_backward(
    const at::Tensor& grad,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& view,
    const at::Tensor& output,
    at::IntArrayRef grid_size) {
  TORCH_CHECK_VALUE(grad.dim() == 5, "grad must be (S, B, C, Y, X), got ", grad.sizes());
  const auto shape = check_splat(weights, foreground, context, view, output, grad.size(1), grid_size);
  const auto sizes = bev_sizes(shape);
  TORCH_CHECK_VALUE(grad.sizes() == at::IntArrayRef(sizes), "grad must be ", at::IntArrayRef(sizes), ", got ", grad.sizes());
  return shape;
}

// Sums are in float32, or in float64 where weights or context are float64.
inline at::ScalarType sum_type(const at::Tensor& weights, const at::Tensor& context) {
  const bool is_double = weights.scalar_type() == at::kDouble || context.scalar_type() == at::kDouble;
  return is_double ? at::kDouble : at::kFloat;
}

}  // namespace fsdbev
