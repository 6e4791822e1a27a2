// The geometry of lift_splat on the CPU: loops that become vectors, and the table of all cells.
#include "cells.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <numeric>

namespace fsdbev {

FSDBEV_CLONES void lift_points(
    const Frustum& frustum,
    const Affine& undo_image_aug,
    int64_t row,
    int64_t column,
    const int32_t* bins,
    int64_t count,
    double* x,
    double* y,
    double* depth) {
  const Frustum own = frustum;  // copies, which the results cannot alias
  const Affine undo = undo_image_aug;
  for (int64_t t = 0; t < count; ++t) {
    const LiftedPoint point = own.lift(undo, bins[t], row, column);
    x[t] = point.x;
    y[t] = point.y;
    depth[t] = point.depth;
  }
}

FSDBEV_CLONES void find_cells(
    const Frustum& frustum,
    const Affine& image2bev,
    const double* x,
    const double* y,
    const double* depth,
    int64_t count,
    int32_t* cells) {
  const Frustum own = frustum;
  const Affine a2b = image2bev;
  for (int64_t t = 0; t < count; ++t) {
    cells[t] = own.cell(a2b, {x[t], y[t], depth[t]});
  }
}

namespace {

at::Tensor frustum_cells_cpu(
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    int64_t num_bins,
    at::IntArrayRef feature_size,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count) {
  const Frustum frustum = check_frustum_cells(
      undo_image_aug, image2bev, view, num_bins, feature_size, image_size, depth_start, depth_step, lower, size, count);
  const int64_t height = feature_size[0], width = feature_size[1], pixels = height * width;
  const at::Tensor views = view.contiguous();
  const int64_t* view_of = views.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < view.size(0); ++p) {
    check_index("view", p, view_of[p], undo_image_aug.size(0));
  }
  const FrustumCells source(frustum, undo_image_aug, image2bev, width);
  const at::Tensor table = at::empty({view.size(0), num_bins, height, width}, view.options().dtype(at::kInt));
  if (table.numel() == 0) {
    return table;
  }
  int32_t* cells = table.mutable_data_ptr<int32_t>();
  at::parallel_for(0, view.size(0) * pixels, 64, [&](int64_t begin, int64_t end) {
    Ray ray(num_bins);
    std::iota(ray.bins.begin(), ray.bins.end(), 0);
    ray.count = num_bins;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t splat = task / pixels;
      ray.view = view_of[splat];
      ray.pixel = task % pixels;
      source.lift(ray);
      source.find(splat, ray);
      for (int64_t k = 0; k < num_bins; ++k) {
        cells[(splat * num_bins + k) * pixels + ray.pixel] = ray.cells[k];
      }
    }
  });
  return table;
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) { m.impl("frustum_cells", &frustum_cells_cpu); }

}  // namespace fsdbev
