// Feature maps with channels last, padded to whole blocks, for the loops over channels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace fsdbev {

// Channels are handled in blocks of this many, a fixed length that the compiler turns into vectors.
constexpr int64_t kBlock = 16;

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// (maps, C, positions) of any dtype -> (maps, positions, C rounded up to whole blocks) of type T,
// zero-filled.
template <typename T>
at::Tensor channels_last_blocks(const at::Tensor& tensor);

// Transposes rows x columns values: to[c * to_stride + r] = from[r * from_stride + c].
template <typename T>
void transpose(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to, int64_t to_stride);

}  // namespace fsdbev
