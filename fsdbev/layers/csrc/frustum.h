// Geometry of camera frustum points in the BEV grid, shared by the CPU and the CUDA kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstdint>
#include <limits>

#if defined(__CUDACC__)
#define FSDBEV_HOST_DEVICE __host__ __device__
#else
#define FSDBEV_HOST_DEVICE
#endif

namespace fsdbev {

// The upper three rows of a 4x4 matrix on column vectors.
struct Affine {
  double rows[3][4];

  FSDBEV_HOST_DEVICE explicit Affine(const double* matrix) {
    for (int i = 0; i < 12; ++i) {
      rows[i / 4][i % 4] = matrix[i];
    }
  }

  FSDBEV_HOST_DEVICE double operator()(int row, double a, double b, double c) const {
    const double* r = rows[row];
    return r[0] * a + r[1] * b + r[2] * c + r[3];
  }
};

// (u depth, v depth, depth) of the original image.
struct LiftedPoint {
  double x, y, depth;
};

// The frustum and the BEV grid. Everything is in double, in the order of operations of the PyTorch
// reference and compiled without fused multiply-add, so that a point near the border of a cell falls
// into the same cell on every device.
struct Frustum {
  double u_step, v_step, depth_start, depth_step;
  double lower[3], size[3];
  int64_t count_x, count_y;

  // Frustum point of depth bin k, row i and column j of the feature map.
  FSDBEV_HOST_DEVICE LiftedPoint lift(const Affine& undo_image_aug, int64_t k, int64_t i, int64_t j) const {
    const double u = j * u_step, v = i * v_step, d = depth_start + depth_step * k;
    const double depth = undo_image_aug(2, u, v, d);
    return {undo_image_aug(0, u, v, d) * depth, undo_image_aug(1, u, v, d) * depth, depth};
  }

  // Returns the cell y * X + x of a lifted point, or -1 outside the grid.
  FSDBEV_HOST_DEVICE int32_t cell(const Affine& image2bev, const LiftedPoint& point) const {
    const double column = (image2bev(0, point.x, point.y, point.depth) - lower[0]) / size[0];
    const double row = (image2bev(1, point.x, point.y, point.depth) - lower[1]) / size[1];
    const double level = (image2bev(2, point.x, point.y, point.depth) - lower[2]) / size[2];
    // Truncation toward zero as in the public release: everything in (-1, 1) is cell 0. A NaN fails
    // every comparison. Bitwise and, since code without branches can be vectorised.
    const bool inside = (column > -1) & (column < count_x) & (row > -1) & (row < count_y) & (level > -1) & (level < 1);
    const auto x = static_cast<int32_t>(inside ? column : 0.0), y = static_cast<int32_t>(inside ? row : 0.0);
    return inside ? y * static_cast<int32_t>(count_x) + x : -1;
  }
};

constexpr int64_t kMaxCells = std::numeric_limits<int32_t>::max();

inline void check_index(const char* name, int64_t place, int64_t value, int64_t limit) {
  TORCH_CHECK_VALUE(
      value >= 0 && value < limit, name, "[", place, "] must be in 0 .. ", limit - 1, ", got ", value);
}

// Divides instead of multiplying, since the product may overflow.
inline void check_feature_size(int64_t height, int64_t width) {
  TORCH_CHECK_VALUE(
      height == 0 || width <= kMaxCells / height, "too large a feature map: ", height, " x ", width, " pixels");
}

// (Y, X) of the number of cells (X, Y, Z).
inline std::array<int64_t, 2> grid_size_of(at::IntArrayRef count) {
  TORCH_CHECK_VALUE(
      count.size() == 3 && count[0] > 0 && count[1] > 0 && count[2] == 1 && count[0] <= kMaxCells / count[1],
      "count must be (X, Y, 1) with 1 to ", kMaxCells, " cells, got ", count);
  return {count[1], count[0]};
}

// Checks matrices and grid for feature maps of `height` x `width` of `views` views.
inline Frustum make_frustum(
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    int64_t views,
    int64_t height,
    int64_t width,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count) {
  const auto check_matrices = [&](const at::Tensor& matrices, const char* name, int64_t number) {
    const int64_t sizes[] = {number, 4, 4};
    TORCH_CHECK_VALUE(
        matrices.sizes() == at::IntArrayRef(sizes), name, " must be ", at::IntArrayRef(sizes), ", got ",
        matrices.sizes());
    TORCH_CHECK_VALUE(
        matrices.is_floating_point(), name, " must be floating point, got ", matrices.scalar_type());
    TORCH_CHECK_VALUE(
        matrices.device() == view.device(), name, " is on ", matrices.device(), ", view on ", view.device());
  };
  check_matrices(undo_image_aug, "undo_image_aug", views);
  check_matrices(image2bev, "image2bev", view.size(0));
  TORCH_CHECK_VALUE(image_size.size() == 2, "image_size must be (H, W), got ", image_size);
  TORCH_CHECK_VALUE(lower.size() == 3 && size.size() == 3, "lower and size must be x, y, z, got ", lower, " and ", size);
  const auto step = [](int64_t pixels, int64_t features) {
    return features > 1 ? (static_cast<double>(pixels) - 1) / static_cast<double>(features - 1) : 0.0;
  };
  return Frustum{
      step(image_size[1], width), step(image_size[0], height), depth_start, depth_step,
      {lower[0], lower[1], lower[2]}, {size[0], size[1], size[2]}, count[0], count[1]};
}

// Checks the arguments of frustum_cells.
inline Frustum check_frustum_cells(
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
  TORCH_CHECK_VALUE(
      view.dim() == 1 && view.scalar_type() == at::kLong, "view must be (P,) int64, got ", view.sizes(), " ",
      view.scalar_type());
  TORCH_CHECK_VALUE(undo_image_aug.dim() == 3, "undo_image_aug must be (V, 4, 4), got ", undo_image_aug.sizes());
  TORCH_CHECK_VALUE(num_bins >= 0, "num_bins must not be negative, got ", num_bins);
  TORCH_CHECK_VALUE(
      feature_size.size() == 2 && feature_size[0] >= 0 && feature_size[1] >= 0, "feature_size must be (h, w), got ",
      feature_size);
  check_feature_size(feature_size[0], feature_size[1]);
  grid_size_of(count);
  return make_frustum(
      undo_image_aug, image2bev, view, undo_image_aug.size(0), feature_size[0], feature_size[1], image_size,
      depth_start, depth_step, lower, size, count);
}

}  // namespace fsdbev
