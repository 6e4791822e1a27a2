// Two sources of the BEV cells of a ray's points: the geometry, or a precomputed table.
#pragma once

#include "../frustum.h"
#include "clones.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace fsdbev {

// The considered depth bins of one ray (a pixel of a view) with their points and cells.
struct Ray {
  int64_t view = 0, pixel = 0, count = 0;
  std::vector<int32_t> bins, cells;        // the first `count` are valid
  std::vector<double> x, y, depth;         // lifted points; not used with a table of cells

  explicit Ray(int64_t num_bins) : bins(num_bins), cells(num_bins), x(num_bins), y(num_bins), depth(num_bins) {}
};

// Loops of FrustumCells over `count` points.
void lift_points(
    const Frustum& frustum,
    const Affine& undo_image_aug,
    int64_t row,
    int64_t column,
    const int32_t* bins,
    int64_t count,
    double* x,
    double* y,
    double* depth);
void find_cells(
    const Frustum& frustum,
    const Affine& image2bev,
    const double* x,
    const double* y,
    const double* depth,
    int64_t count,
    int32_t* cells);

// Computes cells; a ray is lifted once for all splats of its view.
class FrustumCells {
 public:
  FrustumCells(const Frustum& frustum, const at::Tensor& undo_image_aug, const at::Tensor& image2bev, int64_t width)
      : frustum_(frustum),
        undo_image_aug_(undo_image_aug.to(at::kDouble).contiguous()),
        image2bev_(image2bev.to(at::kDouble).contiguous()),
        width_(width) {}

  void lift(Ray& ray) const {
    const Affine undo(undo_image_aug_.const_data_ptr<double>() + ray.view * 16);
    lift_points(
        frustum_, undo, ray.pixel / width_, ray.pixel % width_, ray.bins.data(), ray.count, ray.x.data(),
        ray.y.data(), ray.depth.data());
  }

  void find(int64_t splat, Ray& ray) const {
    const Affine image2bev(image2bev_.const_data_ptr<double>() + splat * 16);
    find_cells(frustum_, image2bev, ray.x.data(), ray.y.data(), ray.depth.data(), ray.count, ray.cells.data());
  }

 private:
  const Frustum frustum_;
  const at::Tensor undo_image_aug_, image2bev_;
  const int64_t width_;
};

// Reads cells from a table (P, D, pixels).
class TableCells {
 public:
  TableCells(const at::Tensor& table, int64_t num_bins, int64_t pixels, int64_t num_cells)
      : table_(table.contiguous()), num_bins_(num_bins), pixels_(pixels), num_cells_(num_cells) {}

  void lift(Ray&) const {}

  void find(int64_t splat, Ray& ray) const {
    const int32_t* table = table_.const_data_ptr<int32_t>() + splat * num_bins_ * pixels_ + ray.pixel;
    for (int64_t t = 0; t < ray.count; ++t) {
      const int32_t cell = table[ray.bins[t] * pixels_];
      TORCH_CHECK_VALUE(
          cell >= -1 && cell < num_cells_, "cells must be -1 (none) or 0 .. ", num_cells_ - 1, ", got ", cell);
      ray.cells[t] = cell;
    }
  }

 private:
  const at::Tensor table_;
  const int64_t num_bins_, pixels_, num_cells_;
};

}  // namespace fsdbev
