// Two sources of the BEV cells of frustum points: the geometry, or a precomputed table.
#pragma once

#include "../lift_splat.h"

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>

namespace fsdbev {

// 4x4 matrices as the kernels read them.
inline at::Tensor as_matrices(const at::Tensor& matrices) { return matrices.to(at::kDouble).contiguous(); }

// Computes cells; a point is lifted once for all splats of its view. Its matrices come from as_matrices
// and must outlive the launch.
class FrustumCells {
 public:
  using Point = LiftedPoint;

  FrustumCells(const Frustum& frustum, const at::Tensor& undo_image_aug, const at::Tensor& image2bev, int64_t width)
      : frustum_(frustum),
        undo_image_aug_(undo_image_aug.const_data_ptr<double>()),
        image2bev_(image2bev.const_data_ptr<double>()),
        width_(width) {}

  __device__ Point lift(int64_t v, int64_t k, int64_t pixel) const {
    return frustum_.lift(Affine(undo_image_aug_ + v * 16), k, pixel / width_, pixel % width_);
  }

  __device__ int32_t find(int64_t splat, const Point& point) const {
    return frustum_.cell(Affine(image2bev_ + splat * 16), point);
  }

 private:
  Frustum frustum_;
  const double *undo_image_aug_, *image2bev_;
  int64_t width_;
};

// Reads cells from a contiguous table (P, D, pixels), which must outlive the launch.
class TableCells {
 public:
  using Point = int64_t;  // place of a point in a splat's part of the table

  TableCells(const at::Tensor& table, const LiftSplatShape& shape)
      : table_(table.const_data_ptr<int32_t>()),
        points_(shape.bins * shape.pixels()),
        pixels_(shape.pixels()),
        cells_(shape.cells()) {}

  __device__ Point lift(int64_t, int64_t k, int64_t pixel) const { return k * pixels_ + pixel; }

  __device__ int32_t find(int64_t splat, Point point) const {
    const int32_t cell = table_[splat * points_ + point];
    CUDA_KERNEL_ASSERT(cell >= -1 && cell < cells_ && "cells must be -1 (none) or 0 .. Y X - 1");
    return cell;
  }

 private:
  const int32_t* table_;
  int64_t points_, pixels_, cells_;
};

// The table of all cells (P, D, pixels) int32; see csrc/cuda/frustum.cu.
at::Tensor cell_table(
    const FrustumCells& cells,
    const at::Tensor& view,
    int64_t num_views,
    int64_t num_bins,
    int64_t pixels);

}  // namespace fsdbev
