// Launch sizes and warp-level operations.
#pragma once

#include <c10/util/Exception.h>

#include <cstdint>
#include <limits>

namespace fsdbev {

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr int kBlockThreads = kWarp * kWarpsPerBlock;
constexpr unsigned kAllLanes = 0xffffffffu;

// Returns the number of blocks along x for `items` at `per_block` items per block.
inline unsigned blocks_for(int64_t items, int64_t per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  TORCH_CHECK_VALUE(blocks <= std::numeric_limits<int32_t>::max(), "too much for one launch: ", blocks, " blocks");
  return static_cast<unsigned>(blocks);
}

template <typename T>
__device__ T sum_over_warp(T value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

}  // namespace fsdbev
