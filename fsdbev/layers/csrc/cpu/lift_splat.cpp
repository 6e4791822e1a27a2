// CPU kernels of lift_splat. Threads share the work by pixels (finding cells, gradients) and by bands
// of BEV cells (sums), and every sum runs in one thread in a fixed order: results do not depend on the
// number of threads.
#include "channels.h"
#include "contributions.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>

namespace fsdbev {
namespace {

// The sums of one band. Stripes without points, most of them with a foreground mask, are neither
// cleared nor written.
template <typename T>
class BandSums {
 public:
  BandSums(const Bands& bands, int64_t padded)
      : bands_(bands), padded_(padded), sums_(bands.stripes() * Bands::kStripe * padded), touched_(bands.stripes()) {}

  void clear() { std::fill(touched_.begin(), touched_.end(), false); }

  // rows: (pixels, padded C) features of the view that the items are of.
  void add(const Contribution<T>* items, int64_t count, const T* rows) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t stripe = items[i].cell >> Bands::kStripeBits;
      if (!touched_[stripe]) {
        touched_[stripe] = true;
        std::fill_n(sums_.data() + stripe * Bands::kStripe * padded_, Bands::kStripe * padded_, T(0));
      }
    }
    add_contributions(items, count, rows, padded_, sums_.data());
  }

  // planes: (C, cells), zero.
  void write(int64_t band, int64_t channels, T* planes) const {
    for (int64_t stripe = 0; stripe < bands_.stripes(); ++stripe) {
      if (touched_[stripe]) {
        const int64_t first = bands_.first_cell(band, stripe);
        transpose(
            sums_.data() + stripe * Bands::kStripe * padded_, padded_,
            std::min(Bands::kStripe, bands_.cells - first), channels, planes + first, bands_.cells);
      }
    }
  }

 private:
  const Bands bands_;
  const int64_t padded_;
  std::vector<T> sums_;
  std::vector<char> touched_;
};

template <typename T, typename Cells>
at::Tensor forward(const SplatInputs<T>& in, const at::Tensor& context, const Cells& cells) {
  const auto& shape = in.shape;
  const at::Tensor features = channels_last_blocks<T>(context.flatten(2));
  const Bands bands(shape.cells(), features.size(-1) * sizeof(T));
  const Contributions<T> contributions(in, cells, bands);
  const at::Tensor bev = at::zeros(bev_sizes(shape), features.options());
  const T* rows = features.const_data_ptr<T>();
  T* planes = bev.mutable_data_ptr<T>();
  const int64_t padded = features.size(-1);
  at::parallel_for(0, shape.sets * shape.outputs * bands.count, 1, [&](int64_t begin, int64_t end) {
    BandSums<T> sums(bands, padded);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t band = task % bands.count, plane = task / bands.count, set = plane / shape.outputs;
      sums.clear();
      for (const int64_t splat : in.splats_of_output(plane % shape.outputs)) {
        contributions.for_each(splat, set, band, [&](const Contribution<T>* items, int64_t count) {
          sums.add(items, count, rows + in.view(splat) * shape.pixels() * padded);
        });
      }
      sums.write(band, shape.channels, planes + plane * shape.channels * shape.cells());
    }
  });
  return bev;
}

// Gradients of weights and context.
template <typename T, typename Cells>
std::tuple<at::Tensor, at::Tensor> backward(
    const SplatInputs<T>& in,
    const at::Tensor& weights,
    const at::Tensor& context,
    const at::Tensor& grad,
    const Cells& cells) {
  const auto& shape = in.shape;
  const int64_t pixels = shape.pixels();
  const at::Tensor features = channels_last_blocks<T>(context.flatten(2));
  const at::Tensor grads = channels_last_blocks<T>(grad.flatten(3).flatten(0, 1));
  const auto grad_weights = at::zeros(weights.sizes(), features.options());
  const auto grad_context = at::empty(context.sizes(), features.options());
  const T *rows = features.const_data_ptr<T>(), *grad_rows = grads.const_data_ptr<T>();
  T *to_weights = grad_weights.mutable_data_ptr<T>(), *to_context = grad_context.mutable_data_ptr<T>();
  const int64_t padded = features.size(-1), tasks = round_up(pixels, kPixelsPerTask) / kPixelsPerTask;
  at::parallel_for(0, shape.views * tasks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sums;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t v = task / tasks, first = task % tasks * kPixelsPerTask;
      const int64_t last = std::min(first + kPixelsPerTask, pixels);
      sums.assign((last - first) * padded, T(0));
      in.for_each_run(cells, v, first, last, [&](const Run<T>& run) {
        const int64_t cell = (run.set * shape.outputs + in.output(run.splat)) * shape.cells() + run.cell;
        const T dot = add_and_dot(
            rows + (v * pixels + run.pixel) * padded, grad_rows + cell * padded, run.weight, padded,
            sums.data() + (run.pixel - first) * padded);
        T* grad_ray = to_weights + (run.set * shape.views + v) * shape.bins * pixels + run.pixel;
        for (int64_t i = 0; i < run.count; ++i) {
          grad_ray[run.bins[i] * pixels] += dot;
        }
      });
      transpose(sums.data(), padded, last - first, shape.channels, to_context + v * shape.channels * pixels + first, pixels);
    }
  });
  return {grad_weights.to(weights.scalar_type()), grad_context.to(context.scalar_type())};
}

// Converts to the type of the sums and runs `pass(inputs)`, a generic lambda, on it.
template <typename Pass>
auto dispatch(
    const LiftSplatShape& shape,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold,
    const Pass& pass) {
  return AT_DISPATCH_FLOATING_TYPES(sum_type(weights, context), "lift_splat_cpu", [&] {
    return pass(SplatInputs<scalar_t>(
        shape, weights, foreground, view, output, depth_threshold, foreground_threshold));
  });
}

at::Tensor lift_splat_cpu(
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    const at::Tensor& output,
    int64_t num_outputs,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape = check_splat(weights, foreground, context, view, output, num_outputs, grid_size_of(count));
  const auto frustum = make_frustum(
      shape, undo_image_aug, image2bev, view, image_size, depth_start, depth_step, lower, size, count);
  const FrustumCells cells(frustum, undo_image_aug, image2bev, shape.width);
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return forward(in, context, cells); });
}

std::tuple<at::Tensor, at::Tensor> lift_splat_backward_cpu(
    const at::Tensor& grad,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& undo_image_aug,
    const at::Tensor& image2bev,
    const at::Tensor& view,
    const at::Tensor& output,
    at::IntArrayRef image_size,
    double depth_start,
    double depth_step,
    at::ArrayRef<double> lower,
    at::ArrayRef<double> size,
    at::IntArrayRef count,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape =
      check_splat_backward(grad, weights, foreground, context, view, output, grid_size_of(count));
  const auto frustum = make_frustum(
      shape, undo_image_aug, image2bev, view, image_size, depth_start, depth_step, lower, size, count);
  const FrustumCells cells(frustum, undo_image_aug, image2bev, shape.width);
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return backward(in, weights, context, grad, cells); });
}

at::Tensor splat_cells_cpu(
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    int64_t num_outputs,
    at::IntArrayRef grid_size,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape = check_splat(weights, foreground, context, view, output, num_outputs, grid_size);
  check_cells(cells, weights, shape);
  const TableCells table(cells, shape.bins, shape.pixels(), shape.cells());
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return forward(in, context, table); });
}

std::tuple<at::Tensor, at::Tensor> splat_cells_backward_cpu(
    const at::Tensor& grad,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    at::IntArrayRef grid_size,
    double depth_threshold,
    double foreground_threshold) {
  const auto shape = check_splat_backward(grad, weights, foreground, context, view, output, grid_size);
  check_cells(cells, weights, shape);
  const TableCells table(cells, shape.bins, shape.pixels(), shape.cells());
  return dispatch(
      shape, weights, foreground, context, view, output, depth_threshold, foreground_threshold,
      [&](const auto& in) { return backward(in, weights, context, grad, table); });
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) {
  m.impl("lift_splat", &lift_splat_cpu);
  m.impl("lift_splat_backward", &lift_splat_backward_cpu);
  m.impl("splat_cells", &splat_cells_cpu);
  m.impl("splat_cells_backward", &splat_cells_backward_cpu);
}

}  // namespace fsdbev
