// CUDA kernels of the heatmaps. Elliptical heatmaps: a thread per cell loops over the boxes of its view
// and class. Gaussians on the BEV grid: a block per peak, combined by an atomic maximum. Both return
// the same values in every run.
#include "../heatmaps.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

namespace fsdbev {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMaxBlocksY = 65535;

// Plain pointers to contiguous tensors.
struct Boxes {
  const double* corners;  // (M, 4)
  const int64_t *view, *class_ids;
  const double* image_aug;  // (V, 4, 4)
  const int64_t* source_sizes;

  __device__ void check(const HeatmapShape& shape, int64_t box) const {
    CUDA_KERNEL_ASSERT(view[box] >= 0 && view[box] < shape.views && "view must be in 0 .. V - 1");
    CUDA_KERNEL_ASSERT(
        class_ids[box] >= 0 && class_ids[box] < shape.classes && "class_ids must be in 0 .. num_classes - 1");
  }

  __device__ NetworkToSource to_source(int64_t v) const {
    const int64_t* size = source_sizes + 2 * v;
    CUDA_KERNEL_ASSERT(
        min(size[0], size[1]) >= 0 && max(size[0], size[1]) <= kLargestImage && "source_sizes are out of range");
    const NetworkToSource to_source(image_aug + 16 * v, size);
    CUDA_KERNEL_ASSERT(to_source.exists() && "image_aug must have an inverse");
    return to_source;
  }
};

// Grid: x over the cells of a map, y over the V x C maps.
__global__ void elliptical_kernel(const HeatmapShape shape, const Boxes boxes, float* maps) {
  const int64_t cell = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (cell >= shape.cells()) {
    return;
  }
  const int64_t row = cell / shape.columns, column = cell % shape.columns;
  for (int64_t map = blockIdx.y; map < shape.views * shape.classes; map += gridDim.y) {
    const int64_t v = map / shape.classes, class_id = map % shape.classes;
    const NetworkToSource to_source = boxes.to_source(v);
    Look looks[4];
    for (int i = 0; i < 4; ++i) {
      looks[i] = to_source.look(
          shape.pixel_of_middle(2 * column + i % 2), shape.pixel_of_middle(2 * row + i / 2));
    }
    float largest[4][4] = {};  // of each middle pixel, at each of its neighbours
    for (int64_t box = 0; box < shape.boxes; ++box) {
      boxes.check(shape, box);
      if (boxes.view[box] != v || boxes.class_ids[box] != class_id) {
        continue;
      }
      const double* corners = boxes.corners + 4 * box;
      const Gaussian x(corners[0], corners[2], to_source.width), y(corners[1], corners[3], to_source.height);
      for (int i = 0; i < 4; ++i) {
        const int64_t left = looks[i].left, top = looks[i].top;
        if (left + 1 < x.first || left > x.last || top + 1 < y.first || top > y.last) {
          continue;
        }
        const float across[2] = {x.at(left), x.at(left + 1)}, down[2] = {y.at(top), y.at(top + 1)};
        for (int j = 0; j < 4; ++j) {
          largest[i][j] = fmaxf(largest[i][j], across[j % 2] * down[j / 2]);
        }
      }
    }
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      sum += interpolate(largest[i], looks[i]) / 4;
    }
    maps[map * shape.cells() + cell] = sum;
  }
}

// maps: (planes, rows, columns), zero. One block a peak.
__global__ void gaussians_kernel(
    const int64_t* xy,
    const int64_t* radius,
    const int64_t* plane,
    int64_t planes,
    int64_t rows,
    int64_t columns,
    float* maps) {
  const int64_t peak = blockIdx.x, x = xy[2 * peak], y = xy[2 * peak + 1], r = radius[peak], on = plane[peak];
  CUDA_KERNEL_ASSERT(on >= -1 && on < planes && "plane must be in -1 .. planes - 1");
  if (on < 0) {
    return;
  }
  CUDA_KERNEL_ASSERT(x >= 0 && x < columns && y >= 0 && y < rows && "xy must be on the grid");
  CUDA_KERNEL_ASSERT(r >= 0 && "radius must not be negative");
  const Cover along_x(x, r, columns), along_y(y, r, rows);
  const int64_t width = along_x.last - along_x.first + 1, height = along_y.last - along_y.first + 1;
  for (int64_t i = threadIdx.x; i < width * height; i += kThreads) {
    const int64_t column = along_x.first + i % width, row = along_y.first + i / width;
    const float value = peak_value(row - y, r) * peak_value(column - x, r);
    // Floats that are not negative are ordered as their bits are.
    atomicMax(reinterpret_cast<int*>(maps + (on * rows + row) * columns + column), __float_as_int(value));
  }
}

unsigned checked_blocks(int64_t blocks, const char* what) {
  TORCH_CHECK_VALUE(blocks <= std::numeric_limits<int32_t>::max(), "too many ", what, ": ", blocks, " blocks");
  return static_cast<unsigned>(blocks);
}

at::Tensor elliptical_heatmaps_cuda(
    const at::Tensor& boxes,
    const at::Tensor& view,
    const at::Tensor& class_ids,
    const at::Tensor& image_aug,
    const at::Tensor& source_sizes,
    int64_t num_classes,
    at::IntArrayRef image_size,
    int64_t stride) {
  const auto shape = check_elliptical_heatmaps(
      boxes, view, class_ids, image_aug, source_sizes, num_classes, image_size, stride);
  const c10::cuda::CUDAGuard guard(boxes.device());
  const auto corners = boxes.to(at::kDouble).contiguous(), matrices = image_aug.to(at::kDouble).contiguous();
  const auto views = view.contiguous(), classes = class_ids.contiguous(), sizes = source_sizes.contiguous();
  auto maps = at::empty({shape.views, shape.classes, shape.rows, shape.columns}, boxes.options().dtype(at::kFloat));
  if (maps.numel() > 0) {
    const dim3 grid(
        checked_blocks((shape.cells() + kThreads - 1) / kThreads, "cells"),
        static_cast<unsigned>(std::min(shape.views * shape.classes, kMaxBlocksY)));
    const Boxes pointers{
        corners.const_data_ptr<double>(), views.const_data_ptr<int64_t>(), classes.const_data_ptr<int64_t>(),
        matrices.const_data_ptr<double>(), sizes.const_data_ptr<int64_t>()};
    elliptical_kernel<<<grid, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        shape, pointers, maps.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return maps;
}

at::Tensor draw_gaussians_cuda(
    const at::Tensor& xy,
    const at::Tensor& radius,
    const at::Tensor& plane,
    int64_t planes,
    at::IntArrayRef shape) {
  check_draw_gaussians(xy, radius, plane, planes, shape);
  const c10::cuda::CUDAGuard guard(xy.device());
  const auto centers = xy.contiguous(), radii = radius.contiguous(), on = plane.contiguous();
  auto maps = at::zeros({planes, shape[0], shape[1]}, xy.options().dtype(at::kFloat));
  if (xy.size(0) > 0) {
    gaussians_kernel<<<checked_blocks(xy.size(0), "peaks"), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        centers.const_data_ptr<int64_t>(), radii.const_data_ptr<int64_t>(), on.const_data_ptr<int64_t>(), planes,
        shape[0], shape[1], maps.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return maps;
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CUDA, m) {
  m.impl("elliptical_heatmaps", &elliptical_heatmaps_cuda);
  m.impl("draw_gaussians", &draw_gaussians_cuda);
}

}  // namespace fsdbev
