// CPU kernels of lift_splat. Threads share the work by output planes (forward) and by image rows
// (backward), and every sum runs in one thread in a fixed order: results do not depend on the
// number of threads.
#include "lift_splat_inputs.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

namespace fsdbev {
namespace {

// Channels are handled in blocks of this many, a fixed length that the compiler turns into vectors.
constexpr int64_t kBlock = 16;

// A frustum point that takes part, with its BEV cell.
template <typename T>
struct KeptPoint {
  int32_t cell, pixel;
  T weight;
};

// Transposes up to kBlock x kBlock values: to[c * to_stride + r] = from[r * from_stride + c].
template <typename T>
void transpose_tile(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to, int64_t to_stride) {
  T tile[kBlock][kBlock];
  const auto transpose = [&](int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(from + r * from_stride, columns, tile[r]);
    }
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < rows; ++r) {
        to[c * to_stride + r] = tile[r][c];
      }
    }
  };
  if (rows == kBlock && columns == kBlock) {
    transpose(kBlock, kBlock);  // sizes that the compiler knows
  } else {
    transpose(rows, columns);
  }
}

// (maps, C, positions) in any dtype -> (maps, positions, C rounded up to whole blocks), zero-filled.
template <typename T>
at::Tensor channels_last_blocks(const at::Tensor& tensor) {
  const at::Tensor source = tensor.to(c10::CppTypeToScalarType<T>::value).contiguous();
  const int64_t maps = source.size(0), channels = source.size(1), positions = source.size(2);
  const int64_t blocks = (channels + kBlock - 1) / kBlock, padded = blocks * kBlock;
  const std::vector<int64_t> sizes = {maps, positions, padded};
  const at::Tensor out = padded == channels ? at::empty(sizes, source.options()) : at::zeros(sizes, source.options());
  const T* from = source.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, maps * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t map = task / blocks, channel = task % blocks * kBlock;
      const int64_t rows = std::min(kBlock, channels - channel);
      for (int64_t first = 0; first < positions; first += kBlock) {
        transpose_tile(
            from + (map * channels + channel) * positions + first, positions, rows,
            std::min(kBlock, positions - first), to + (map * positions + first) * padded + channel, padded);
      }
    }
  });
  return out;
}

// Sums one block of channels of one output and writes its planes. context: (V, pixels, padded C).
template <typename T>
void splat_block(
    const LiftSplatInputs<T>& in,
    const T* context,
    int64_t first_channel,
    int64_t padded,
    int64_t output,
    const std::vector<KeptPoint<T>>* lists,
    std::vector<T>& sums,
    T* planes) {
  const auto& shape = in.shape;
  sums.assign(shape.cells * kBlock, T(0));
  for (const int64_t splat : in.splats_of_output(output)) {
    const int64_t v = in.view(splat);
    const T* features = context + v * shape.pixels() * padded + first_channel;
    for (const auto& point : lists[splat * shape.sets]) {
      const T* from = features + point.pixel * padded;
      T* to = sums.data() + point.cell * kBlock;
      for (int64_t c = 0; c < kBlock; ++c) {
        to[c] += point.weight * from[c];
      }
    }
  }
  const int64_t channels = std::min(kBlock, shape.channels - first_channel);
  for (int64_t cell = 0; cell < shape.cells; cell += kBlock) {
    transpose_tile(
        sums.data() + cell * kBlock, kBlock, std::min(kBlock, shape.cells - cell), channels, planes + cell, shape.cells);
  }
}

template <typename T>
void forward(const LiftSplatInputs<T>& in, const at::Tensor& context, at::Tensor& bev) {
  const auto& shape = in.shape;
  const at::Tensor features = channels_last_blocks<T>(context.flatten(2));
  const int64_t padded = features.size(-1), blocks = padded / kBlock;

  std::vector<std::vector<KeptPoint<T>>> lists(shape.splats * shape.sets);
  at::parallel_for(0, shape.splats, 1, [&](int64_t begin, int64_t end) {
    for (int64_t splat = begin; splat < end; ++splat) {
      in.for_each_point(splat, 0, shape.pixels(), [&](int64_t set, int64_t, int64_t pixel, int64_t cell, T weight) {
        lists[splat * shape.sets + set].push_back(
            {static_cast<int32_t>(cell), static_cast<int32_t>(pixel), weight});
      });
    }
  });

  T* planes = bev.mutable_data_ptr<T>();
  at::parallel_for(0, shape.sets * shape.outputs * blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sums;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t block = task % blocks, plane = task / blocks;
      const int64_t set = plane / shape.outputs, output = plane % shape.outputs;
      splat_block(
          in, features.const_data_ptr<T>(), block * kBlock, padded, output, lists.data() + set,
          sums, planes + (plane * shape.channels + block * kBlock) * shape.cells);
    }
  });
}

// Adds weight * grad to grad_context and returns context . grad, over whole blocks of channels.
template <typename T>
T backward_point(const T* context, const T* grad, T weight, int64_t padded, T* grad_context) {
  T partial[kBlock] = {};
  for (int64_t first = 0; first < padded; first += kBlock) {
    for (int64_t c = 0; c < kBlock; ++c) {
      partial[c] += context[first + c] * grad[first + c];
      grad_context[first + c] += weight * grad[first + c];
    }
  }
  T sum = 0;
  for (int64_t c = 0; c < kBlock; ++c) {
    sum += partial[c];
  }
  return sum;
}

// Gathers the gradients of one row of one view's feature map. context: (V, pixels, padded C); grad:
// (S, B, cells, padded C); row_sums: (w, padded C), zero.
template <typename T>
void backward_row(
    const LiftSplatInputs<T>& in,
    const T* context,
    const T* grad,
    int64_t padded,
    int64_t v,
    int64_t row,
    T* grad_weights,
    T* row_sums) {
  const auto& shape = in.shape;
  const int64_t pixels = shape.pixels(), first = row * shape.width;
  for (const int64_t splat : in.splats_of_view(v)) {
    const int64_t output = in.output(splat);
    const auto add = [&](int64_t set, int64_t k, int64_t pixel, int64_t cell, T weight) {
      grad_weights[((set * shape.views + v) * shape.bins + k) * pixels + pixel] += backward_point(
          context + (v * pixels + pixel) * padded,
          grad + ((set * shape.outputs + output) * shape.cells + cell) * padded,
          weight, padded, row_sums + (pixel - first) * padded);
    };
    in.for_each_point(splat, first, first + shape.width, add);
  }
}

template <typename T>
void backward(
    const LiftSplatInputs<T>& in,
    const at::Tensor& context,
    const at::Tensor& grad,
    at::Tensor& grad_weights,
    at::Tensor& grad_context) {
  const auto& shape = in.shape;
  const at::Tensor features = channels_last_blocks<T>(context.flatten(2));
  const at::Tensor grads = channels_last_blocks<T>(grad.flatten(3).flatten(0, 1));
  const int64_t padded = features.size(-1);
  T* to = grad_context.mutable_data_ptr<T>();
  at::parallel_for(0, shape.views * shape.height, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sums;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t v = task / shape.height, row = task % shape.height;
      sums.assign(shape.width * padded, T(0));
      backward_row(
          in, features.const_data_ptr<T>(), grads.const_data_ptr<T>(), padded, v, row,
          grad_weights.mutable_data_ptr<T>(), sums.data());
      for (int64_t c = 0; c < shape.channels; ++c) {
        for (int64_t column = 0; column < shape.width; ++column) {
          to[((v * shape.channels + c) * shape.height + row) * shape.width + column] = sums[column * padded + c];
        }
      }
    }
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
  const auto shape = check_lift_splat(
      weights, foreground, context, undo_image_aug, image2bev, view, output, num_outputs, count);
  const auto frustum = make_frustum(shape, image_size, depth_start, depth_step, lower, size, count);
  const auto dtype = sum_type(weights, context);
  auto bev = at::empty({shape.sets, num_outputs, shape.channels, count[1], count[0]}, context.options().dtype(dtype));
  AT_DISPATCH_FLOATING_TYPES(dtype, "lift_splat_cpu", [&] {
    const LiftSplatInputs<scalar_t> inputs(
        shape, frustum, weights, foreground, undo_image_aug, image2bev, view, output,
        depth_threshold, foreground_threshold);
    forward(inputs, context, bev);
  });
  return bev;
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
  TORCH_CHECK_VALUE(grad.dim() == 5, "grad must be (S, B, C, Y, X), got ", grad.sizes());
  const auto shape = check_lift_splat(
      weights, foreground, context, undo_image_aug, image2bev, view, output, grad.size(1), count);
  check_lift_splat_grad(grad, shape, count);
  const auto frustum = make_frustum(shape, image_size, depth_start, depth_step, lower, size, count);
  const auto dtype = sum_type(weights, context);
  auto grad_weights = at::zeros(weights.sizes(), weights.options().dtype(dtype));
  auto grad_context = at::empty(context.sizes(), context.options().dtype(dtype));
  AT_DISPATCH_FLOATING_TYPES(dtype, "lift_splat_backward_cpu", [&] {
    const LiftSplatInputs<scalar_t> inputs(
        shape, frustum, weights, foreground, undo_image_aug, image2bev, view, output,
        depth_threshold, foreground_threshold);
    backward(inputs, context, grad, grad_weights, grad_context);
  });
  return {grad_weights.to(weights.scalar_type()), grad_context.to(context.scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) {
  m.impl("lift_splat", &lift_splat_cpu);
  m.impl("lift_splat_backward", &lift_splat_backward_cpu);
}

}  // namespace fsdbev
