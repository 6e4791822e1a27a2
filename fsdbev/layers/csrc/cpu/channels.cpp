#include "channels.h"

#include "clones.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace fsdbev {
namespace {

// One tile of up to kBlock x kBlock values.
template <typename T>
FSDBEV_INLINE void transpose_tile(
    const T* from,
    int64_t from_stride,
    int64_t rows,
    int64_t columns,
    T* to,
    int64_t to_stride) {
  T tile[kBlock][kBlock];
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      tile[r][c] = from[r * from_stride + c];
    }
  }
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) {
      to[c * to_stride + r] = tile[r][c];
    }
  }
}

template <typename T>
FSDBEV_INLINE void transpose_tiles(
    const T* from,
    int64_t from_stride,
    int64_t rows,
    int64_t columns,
    T* to,
    int64_t to_stride) {
  for (int64_t r = 0; r < rows; r += kBlock) {
    for (int64_t c = 0; c < columns; c += kBlock) {
      const T* tile = from + r * from_stride + c;
      T* target = to + c * to_stride + r;
      if (r + kBlock <= rows && c + kBlock <= columns) {
        transpose_tile(tile, from_stride, kBlock, kBlock, target, to_stride);  // sizes that the compiler knows
      } else {
        transpose_tile(
            tile, from_stride, std::min(kBlock, rows - r), std::min(kBlock, columns - c), target, to_stride);
      }
    }
  }
}

}  // namespace

template <>
FSDBEV_CLONES void transpose(
    const float* from,
    int64_t from_stride,
    int64_t rows,
    int64_t columns,
    float* to,
    int64_t to_stride) {
  transpose_tiles(from, from_stride, rows, columns, to, to_stride);
}

template <>
FSDBEV_CLONES void transpose(
    const double* from,
    int64_t from_stride,
    int64_t rows,
    int64_t columns,
    double* to,
    int64_t to_stride) {
  transpose_tiles(from, from_stride, rows, columns, to, to_stride);
}

template <typename T>
at::Tensor channels_last_blocks(const at::Tensor& tensor) {
  const at::Tensor source = tensor.to(c10::CppTypeToScalarType<T>::value).contiguous();
  const int64_t maps = source.size(0), channels = source.size(1), positions = source.size(2);
  const int64_t padded = round_up(channels, kBlock), parts = round_up(positions, kBlock) / kBlock;
  const at::Tensor out = at::empty({maps, positions, padded}, source.options());
  const T* from = source.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, maps * parts, 8, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t map = part / parts, first = part % parts * kBlock;
      const int64_t count = std::min(kBlock, positions - first);
      T* target = to + (map * positions + first) * padded;
      transpose(from + map * channels * positions + first, positions, channels, count, target, padded);
      for (int64_t p = 0; p < count && padded > channels; ++p) {
        std::fill(target + p * padded + channels, target + (p + 1) * padded, T(0));
      }
    }
  });
  return out;
}

template at::Tensor channels_last_blocks<float>(const at::Tensor&);
template at::Tensor channels_last_blocks<double>(const at::Tensor&);

}  // namespace fsdbev
