// Shapes, argument checks and Gaussians of the heatmaps, shared by the CPU and the CUDA kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/macros/Macros.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <cstdint>

namespace fsdbev {

constexpr int64_t kLargestImage = int64_t{1} << 20;  // pixels along an axis of an original image

// Sizes of one call of elliptical_heatmaps, see "Shapes" in fsdbev/layers/heatmaps.py. A cell is the
// mean of the middle 2 x 2 of its stride x stride pixels. "Middles" index these, two per cell and axis.
struct HeatmapShape {
  int64_t boxes, views, classes, rows, columns, stride;

  C10_HOST_DEVICE int64_t cells() const { return rows * columns; }

  // Pixel of the network image along one axis.
  C10_HOST_DEVICE double pixel_of_middle(int64_t middle) const {
    return static_cast<double>(stride * (middle / 2) + stride / 2 - 1 + middle % 2);
  }
};

// A box along one axis: a Gaussian on whole pixels of the original image, cut at its radius and at the
// image's border.
struct Gaussian {
  double centre, radius;
  int64_t first = 0, last = -1;  // pixels with values above 0; empty for a box outside the image

  C10_HOST_DEVICE Gaussian(double from, double to, int64_t size)
      : centre(std::trunc((from + to) / 2)), radius(std::trunc((to - from) / 2)) {
    const double low = centre - radius, high = centre + radius;
    // A NaN fails every comparison, so such a box is empty, as is one of negative size.
    if (to >= from && low < size && high >= 0) {
      first = low > 0 ? static_cast<int64_t>(low) : 0;
      last = high < size ? static_cast<int64_t>(high) : size - 1;
    }
  }

  C10_HOST_DEVICE bool is_empty() const { return first > last; }

  C10_HOST_DEVICE float at(int64_t position) const {
    if (position < first || position > last) {
      return 0;
    }
    const double offset = (position - centre) / (2 * radius + 1);
    return static_cast<float>(std::exp(-8 * (offset * offset)));
  }
};

// Position of a network pixel in the original image: neighbouring pixel and fraction of a pixel.
struct Look {
  int32_t left, top;
  float right_part, bottom_part;
};

// Inverse of an image augmentation, and the size of the original image.
struct NetworkToSource {
  double u_column, u_row, u_offset, v_column, v_row, v_offset;
  int64_t width, height;

  // image_aug: a row-major 4x4 matrix on (u, v, depth).
  C10_HOST_DEVICE NetworkToSource(const double* image_aug, const int64_t* size)
      : width(size[0]), height(size[1]) {
    const double a = image_aug[0], b = image_aug[1], c = image_aug[4], d = image_aug[5];
    const double determinant = a * d - b * c;
    u_column = d / determinant;
    u_row = -b / determinant;
    v_column = -c / determinant;
    v_row = a / determinant;
    u_offset = -(u_column * image_aug[3] + u_row * image_aug[7]);
    v_offset = -(v_column * image_aug[3] + v_row * image_aug[7]);
  }

  // Whether image_aug has an inverse.
  C10_HOST_DEVICE bool exists() const {
    return std::isfinite(u_column + u_row + u_offset) && std::isfinite(v_column + v_row + v_offset);
  }

  C10_HOST_DEVICE Look look(double column, double row) const {
    const double u = inside(u_column * column + u_row * row + u_offset, width);
    const double v = inside(v_column * column + v_row * row + v_offset, height);
    Look look{whole(u), whole(v), 0, 0};
    look.right_part = static_cast<float>(u - look.left);
    look.bottom_part = static_cast<float>(v - look.top);
    return look;
  }

 private:
  // More than one pixel outside the image all values are 0.
  C10_HOST_DEVICE static double inside(double position, int64_t size) {
    return position > -1 ? (position < size ? position : static_cast<double>(size)) : -1.0;
  }

  C10_HOST_DEVICE static int32_t whole(double position) {
    const int32_t towards_zero = static_cast<int32_t>(position);
    return towards_zero - (position < towards_zero);
  }
};

// Bilinear interpolation of the values at (left, top), (right, top), (left, bottom), (right, bottom).
C10_HOST_DEVICE inline float interpolate(const float* values, const Look& look) {
  const float both = look.right_part * look.bottom_part;
  const float bottom = look.bottom_part - both, right = look.right_part - both;
  const float neither = 1 - look.right_part - bottom;
  return values[0] * neither + values[1] * right + values[2] * bottom + values[3] * both;
}

// A peak of draw_gaussians along one axis, in float as the product of the two axes is.
C10_HOST_DEVICE inline float peak_value(int64_t offset, int64_t radius) {
  const double sigma = (2 * static_cast<double>(radius) + 1) / 6, distance = static_cast<double>(offset);
  return static_cast<float>(std::exp(-(distance * distance) / (2 * sigma * sigma)));
}

// Cells of one axis, first .. last, that a peak on the grid covers.
struct Cover {
  int64_t first, last;

  C10_HOST_DEVICE Cover(int64_t centre, int64_t radius, int64_t size)
      : first(radius < centre ? centre - radius : 0),
        last(radius < size - 1 - centre ? centre + radius : size - 1) {}
};

inline HeatmapShape check_elliptical_heatmaps(
    const at::Tensor& boxes,
    const at::Tensor& view,
    const at::Tensor& class_ids,
    const at::Tensor& image_aug,
    const at::Tensor& source_sizes,
    int64_t num_classes,
    at::IntArrayRef image_size,
    int64_t stride) {
  TORCH_CHECK_VALUE(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must be (M, 4), got ", boxes.sizes());
  TORCH_CHECK_VALUE(
      image_aug.dim() == 3 && image_aug.size(1) == 4 && image_aug.size(2) == 4,
      "image_aug must be (V, 4, 4), got ", image_aug.sizes());
  const int64_t number = boxes.size(0), views = image_aug.size(0);
  const auto check = [&](const at::Tensor& tensor, const char* name, at::IntArrayRef sizes, bool is_index) {
    TORCH_CHECK_VALUE(
        tensor.sizes() == sizes, name, " must be ", sizes, " beside boxes ", boxes.sizes(), " and image_aug ",
        image_aug.sizes(), ", got ", tensor.sizes());
    TORCH_CHECK_VALUE(
        tensor.device() == boxes.device(), name, " is on ", tensor.device(), ", boxes on ", boxes.device());
    TORCH_CHECK_VALUE(
        is_index ? tensor.scalar_type() == at::kLong : tensor.is_floating_point(), name, " must be ",
        is_index ? "int64" : "floating point", ", got ", tensor.scalar_type());
  };
  check(boxes, "boxes", {number, 4}, false);
  check(view, "view", {number}, true);
  check(class_ids, "class_ids", {number}, true);
  check(image_aug, "image_aug", {views, 4, 4}, false);
  check(source_sizes, "source_sizes", {views, 2}, true);
  TORCH_CHECK_VALUE(num_classes >= 0, "num_classes must not be negative, got ", num_classes);
  TORCH_CHECK_VALUE(
      image_size.size() == 2 && image_size[0] >= 0 && image_size[1] >= 0,
      "image_size must be (H, W), not negative, got ", image_size);
  TORCH_CHECK_VALUE(stride >= 2 && stride % 2 == 0, "stride must be even and positive, got ", stride);
  return {number, views, num_classes, image_size[0] / stride, image_size[1] / stride, stride};
}

inline void check_draw_gaussians(
    const at::Tensor& xy,
    const at::Tensor& radius,
    const at::Tensor& plane,
    int64_t planes,
    at::IntArrayRef shape) {
  TORCH_CHECK_VALUE(xy.dim() == 2 && xy.size(1) == 2, "xy must be (P, 2), got ", xy.sizes());
  const auto check = [&](const at::Tensor& tensor, const char* name) {
    TORCH_CHECK_VALUE(
        tensor.dim() == 1 && tensor.size(0) == xy.size(0), name, " must be (P,) beside xy ", xy.sizes(), ", got ",
        tensor.sizes());
    TORCH_CHECK_VALUE(tensor.device() == xy.device(), name, " is on ", tensor.device(), ", xy on ", xy.device());
  };
  check(radius, "radius");
  check(plane, "plane");
  for (const auto& tensor : {xy, radius, plane}) {
    TORCH_CHECK_VALUE(
        tensor.scalar_type() == at::kLong, "xy, radius and plane must be int64, got ", tensor.scalar_type());
  }
  TORCH_CHECK_VALUE(planes >= 0, "planes must not be negative, got ", planes);
  TORCH_CHECK_VALUE(
      shape.size() == 2 && shape[0] >= 0 && shape[1] >= 0, "shape must be (Y, X), not negative, got ", shape);
}

}  // namespace fsdbev
