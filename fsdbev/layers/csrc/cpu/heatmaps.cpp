// CPU kernels of the heatmaps. Only pixels near a box are visited, one row of middle pixels at a time.
// Exponentials come from one table per axis.
#include "../heatmaps.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <vector>

namespace fsdbev {
namespace {

// The values of a Gaussian, with two zeros on either side.
class Table {
 public:
  explicit Table(const Gaussian& gaussian)
      : start_(gaussian.first - 2), size_(gaussian.last - gaussian.first + 5), values_(size_) {
    for (int64_t position = gaussian.first; position <= gaussian.last; ++position) {
      values_[position - start_] = gaussian.at(position);
    }
  }

  // Values at this position and the next.
  const float* at(int64_t position) const {
    return values_.data() + std::clamp<int64_t>(position - start_, 0, size_ - 2);
  }

 private:
  int64_t start_, size_;
  std::vector<float> values_;
};

// Indices first .. last - 1.
struct Range {
  int64_t first, last;

  bool contains(int64_t index) const { return first <= index && index < last; }
};

// Returns the middles of one axis that a box can affect. image_aug_row: row of image_aug of that axis.
Range middles_near(
    const Gaussian& x,
    const Gaussian& y,
    const double* image_aug_row,
    int64_t stride,
    int64_t cells) {
  // Bilinear interpolation uses pixels less than one pixel away.
  const double x_middle = (x.first + x.last) / 2.0, x_reach = (x.last - x.first) / 2.0 + 1;
  const double y_middle = (y.first + y.last) / 2.0, y_reach = (y.last - y.first) / 2.0 + 1;
  const double middle = image_aug_row[0] * x_middle + image_aug_row[1] * y_middle + image_aug_row[3];
  const double reach = std::abs(image_aug_row[0]) * x_reach + std::abs(image_aug_row[1]) * y_reach;
  const auto clamped = [&](double cell) {
    return cell > 0 ? static_cast<int64_t>(std::min(cell, static_cast<double>(cells))) : 0;
  };
  return {2 * clamped(std::floor((middle - reach) / stride)), 2 * clamped(std::ceil((middle + reach) / stride))};
}

// A box of an original image: its values, and the middles that it can affect.
struct DrawnBox {
  int64_t class_id;
  Table across, down;
  Range rows, columns;
};

// A middle pixel: its position, and the largest value of a class's boxes at each of its neighbours.
struct Middle {
  Look look;
  std::array<float, 4> largest;
};

void draw(const DrawnBox& box, std::vector<Middle>& row) {
  for (int64_t column = box.columns.first; column < box.columns.last; ++column) {
    Middle& middle = row[column];
    const float* x = box.across.at(middle.look.left);
    const float* y = box.down.at(middle.look.top);
    const std::array<float, 4> values = {x[0] * y[0], x[1] * y[0], x[0] * y[1], x[1] * y[1]};
    for (size_t i = 0; i < 4; ++i) {
      middle.largest[i] = std::max(middle.largest[i], values[i]);
    }
  }
}

// Adds one row of middles to the map of a class; `boxes` .. `end` are its boxes.
void draw_row(
    const DrawnBox* boxes,
    const DrawnBox* end,
    const NetworkToSource& to_source,
    const HeatmapShape& shape,
    int64_t row,
    std::vector<Middle>& middles,
    float* map) {
  Range columns = {2 * shape.columns, 0};
  for (const DrawnBox* box = boxes; box != end; ++box) {
    if (box->rows.contains(row)) {
      columns = {std::min(columns.first, box->columns.first), std::max(columns.last, box->columns.last)};
    }
  }
  const double y = shape.pixel_of_middle(row);
  for (int64_t column = columns.first; column < columns.last; ++column) {
    middles[column] = {to_source.look(shape.pixel_of_middle(column), y), {}};
  }
  for (const DrawnBox* box = boxes; box != end; ++box) {
    if (box->rows.contains(row)) {
      draw(*box, middles);
    }
  }
  float* cells = map + row / 2 * shape.columns;
  for (int64_t column = columns.first; column < columns.last; ++column) {
    const Middle& middle = middles[column];
    cells[column / 2] += interpolate(middle.largest.data(), middle.look) / 4;
  }
}

// Draws the boxes of one view, sorted by class, on its (C, rows, columns) maps.
void draw_view(
    const std::vector<DrawnBox>& boxes,
    const NetworkToSource& to_source,
    const HeatmapShape& shape,
    float* maps) {
  std::vector<Middle> middles(boxes.empty() ? 0 : 2 * shape.columns);
  const DrawnBox* const stop = boxes.data() + boxes.size();
  for (const DrawnBox *first = boxes.data(), *last; first != stop; first = last) {
    const int64_t class_id = first->class_id;
    last = std::find_if(first, stop, [&](const DrawnBox& box) { return box.class_id != class_id; });
    Range rows = first->rows;
    for (const DrawnBox* box = first; box != last; ++box) {
      rows = {std::min(rows.first, box->rows.first), std::max(rows.last, box->rows.last)};
    }
    for (int64_t row = rows.first; row < rows.last; ++row) {
      draw_row(first, last, to_source, shape, row, middles, maps + class_id * shape.cells());
    }
  }
}

// Returns the boxes visible in each view, sorted by class.
std::vector<std::vector<DrawnBox>> boxes_of_views(
    const HeatmapShape& shape,
    const double* boxes,
    const int64_t* view,
    const int64_t* class_ids,
    const double* image_aug,
    const int64_t* source_sizes) {
  std::vector<std::vector<DrawnBox>> of_views(shape.views);
  for (int64_t i = 0; i < shape.boxes; ++i) {
    const int64_t v = view[i], class_id = class_ids[i];
    TORCH_CHECK_VALUE(v >= 0 && v < shape.views, "view must be in 0 .. ", shape.views - 1, ", got ", v);
    TORCH_CHECK_VALUE(
        class_id >= 0 && class_id < shape.classes, "class_ids must be in 0 .. ", shape.classes - 1, ", got ", class_id);
    const double* box = boxes + 4 * i;
    const Gaussian x(box[0], box[2], source_sizes[2 * v]), y(box[1], box[3], source_sizes[2 * v + 1]);
    if (x.is_empty() || y.is_empty()) {
      continue;
    }
    const Range columns = middles_near(x, y, image_aug + 16 * v, shape.stride, shape.columns);
    const Range rows = middles_near(x, y, image_aug + 16 * v + 4, shape.stride, shape.rows);
    if (rows.first < rows.last && columns.first < columns.last) {
      of_views[v].push_back({class_id, Table(x), Table(y), rows, columns});
    }
  }
  for (auto& of_view : of_views) {
    std::stable_sort(of_view.begin(), of_view.end(), [](const DrawnBox& a, const DrawnBox& b) {
      return a.class_id < b.class_id;
    });
  }
  return of_views;
}

std::vector<NetworkToSource> invert(const HeatmapShape& shape, const double* image_aug, const int64_t* source_sizes) {
  std::vector<NetworkToSource> inverses;
  for (int64_t v = 0; v < shape.views; ++v) {
    for (const int64_t size : {source_sizes[2 * v], source_sizes[2 * v + 1]}) {
      TORCH_CHECK_VALUE(
          size >= 0 && size <= kLargestImage, "source_sizes must be in 0 .. ", kLargestImage, ", got ", size);
    }
    inverses.emplace_back(image_aug + 16 * v, source_sizes + 2 * v);
    TORCH_CHECK_VALUE(inverses.back().exists(), "image_aug[", v, "] must have an inverse; it has none on (u, v)");
  }
  return inverses;
}

at::Tensor elliptical_heatmaps_cpu(
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
  const auto corners = boxes.to(at::kDouble).contiguous(), matrices = image_aug.to(at::kDouble).contiguous();
  const auto views = view.contiguous(), classes = class_ids.contiguous(), sizes = source_sizes.contiguous();
  const auto inverses = invert(shape, matrices.const_data_ptr<double>(), sizes.const_data_ptr<int64_t>());
  const auto of_views = boxes_of_views(
      shape, corners.const_data_ptr<double>(), views.const_data_ptr<int64_t>(), classes.const_data_ptr<int64_t>(),
      matrices.const_data_ptr<double>(), sizes.const_data_ptr<int64_t>());
  auto maps = at::zeros({shape.views, shape.classes, shape.rows, shape.columns}, boxes.options().dtype(at::kFloat));
  float* values = maps.mutable_data_ptr<float>();
  at::parallel_for(0, shape.views, 1, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      draw_view(of_views[v], inverses[v], shape, values + v * shape.classes * shape.cells());
    }
  });
  return maps;
}

// Draws a peak on a (rows, columns) map. across: memory for its values along x.
void draw_peak(int64_t x, int64_t y, int64_t radius, int64_t rows, int64_t columns, std::vector<float>& across, float* map) {
  const Cover along_x(x, radius, columns), along_y(y, radius, rows);
  across.clear();
  for (int64_t column = along_x.first; column <= along_x.last; ++column) {
    across.push_back(peak_value(column - x, radius));
  }
  for (int64_t row = along_y.first; row <= along_y.last; ++row) {
    const float down = peak_value(row - y, radius);
    float* to = map + row * columns + along_x.first;
    for (size_t i = 0; i < across.size(); ++i) {
      to[i] = std::max(to[i], down * across[i]);
    }
  }
}

at::Tensor draw_gaussians_cpu(
    const at::Tensor& xy,
    const at::Tensor& radius,
    const at::Tensor& plane,
    int64_t planes,
    at::IntArrayRef shape) {
  check_draw_gaussians(xy, radius, plane, planes, shape);
  const int64_t rows = shape[0], columns = shape[1];
  auto maps = at::zeros({planes, rows, columns}, xy.options().dtype(at::kFloat));
  const auto centers = xy.contiguous(), radii = radius.contiguous(), on = plane.contiguous();
  const int64_t* center = centers.const_data_ptr<int64_t>();
  const int64_t* radius_of = radii.const_data_ptr<int64_t>();
  const int64_t* plane_of = on.const_data_ptr<int64_t>();
  float* values = maps.mutable_data_ptr<float>();
  std::vector<float> across;
  for (int64_t i = 0; i < xy.size(0); ++i) {
    const int64_t x = center[2 * i], y = center[2 * i + 1], r = radius_of[i], p = plane_of[i];
    TORCH_CHECK_VALUE(p >= -1 && p < planes, "plane must be in -1 .. ", planes - 1, ", got ", p);
    if (p >= 0) {
      TORCH_CHECK_VALUE(
          x >= 0 && x < columns && y >= 0 && y < rows, "xy must be on the grid of ", columns, " x ", rows,
          " cells, got ", x, ", ", y);
      TORCH_CHECK_VALUE(r >= 0, "radius must not be negative, got ", r);
      draw_peak(x, y, r, rows, columns, across, values + p * rows * columns);
    }
  }
  return maps;
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) {
  m.impl("elliptical_heatmaps", &elliptical_heatmaps_cpu);
  m.impl("draw_gaussians", &draw_gaussians_cpu);
}

}  // namespace fsdbev
