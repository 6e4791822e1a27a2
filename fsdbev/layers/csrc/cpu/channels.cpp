#include "channels.h"

#include "clones.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace fsdbev {
namespace {

// A tile of any size up to kBlock x kBlock.
template <typename T>
FSDBEV_INLINE void transpose_part(
    const T* from,
    int64_t from_stride,
    int64_t rows,
    int64_t columns,
    T* to,
    int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) {
      to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
}

template <typename T>
FSDBEV_INLINE void transpose_block(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  transpose_part(from, from_stride, kBlock, kBlock, to, to_stride);
}

#if defined(__SSE__)
FSDBEV_INLINE void transpose_block(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  for (int64_t c = 0; c < kBlock; c += 4) {
    for (int64_t r = 0; r < kBlock; r += 4) {
      const float* corner = from + r * from_stride + c;
      __m128 a = _mm_loadu_ps(corner), b = _mm_loadu_ps(corner + from_stride);
      __m128 d = _mm_loadu_ps(corner + 2 * from_stride), e = _mm_loadu_ps(corner + 3 * from_stride);
      _MM_TRANSPOSE4_PS(a, b, d, e);
      float* target = to + c * to_stride + r;
      _mm_storeu_ps(target, a);
      _mm_storeu_ps(target + to_stride, b);
      _mm_storeu_ps(target + 2 * to_stride, d);
      _mm_storeu_ps(target + 3 * to_stride, e);
    }
  }
}
#endif

// The outer loop runs along the side with the longer stride, so that its rows are read or written
// contiguously.
template <typename T>
FSDBEV_INLINE void transpose_tiles(
    const T* from,
    int64_t from_stride,
    int64_t rows,
    int64_t columns,
    T* to,
    int64_t to_stride) {
  const auto tile = [&](int64_t r, int64_t c) {
    const T* corner = from + r * from_stride + c;
    T* target = to + c * to_stride + r;
    if (r + kBlock <= rows && c + kBlock <= columns) {
      transpose_block(corner, from_stride, target, to_stride);
    } else {
      transpose_part(
          corner, from_stride, std::min(kBlock, rows - r), std::min(kBlock, columns - c), target, to_stride);
    }
  };
  if (from_stride > to_stride) {
    for (int64_t r = 0; r < rows; r += kBlock) {
      for (int64_t c = 0; c < columns; c += kBlock) {
        tile(r, c);
      }
    }
  } else {
    for (int64_t c = 0; c < columns; c += kBlock) {
      for (int64_t r = 0; r < rows; r += kBlock) {
        tile(r, c);
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

// Positions that are transposed at a time.
constexpr int64_t kStretch = 64;

template <typename T>
at::Tensor channels_last_blocks(const at::Tensor& tensor) {
  const at::Tensor source = tensor.to(c10::CppTypeToScalarType<T>::value).contiguous();
  const int64_t maps = source.size(0), channels = source.size(1), positions = source.size(2);
  const int64_t padded = round_up(channels, kBlock), parts = round_up(positions, kStretch) / kStretch;
  const at::Tensor out = at::empty({maps, positions, padded}, source.options());
  const T* from = source.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, maps * parts, 8, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t map = part / parts, first = part % parts * kStretch;
      const int64_t count = std::min(kStretch, positions - first);
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
