// Loop over the pooled frustum points on CUDA devices. A block handles tiles of neighbouring pixels of
// a view by depth bins: a warp per pixel, a lane per bin. Points are masked first; the remaining ones
// are lifted once for all splats of the view and weight sets.
#pragma once

#include "arguments.cuh"

namespace fsdbev {

constexpr int kTilePixels = kWarpsPerBlock;  // eight float32 weights are one sector of memory
constexpr int kTileBins = kWarp;
constexpr int kTileSets = 2;  // weight sets that share a walk: the student's and the teacher's

__host__ __device__ inline int64_t pixel_tiles(const LiftSplatShape& shape) {
  return (shape.pixels() + kTilePixels - 1) / kTilePixels;
}

__host__ __device__ inline int64_t bin_tiles(const LiftSplatShape& shape) {
  return (shape.bins + kTileBins - 1) / kTileBins;
}

// The first points of a tile.
struct TilePlace {
  int64_t view, pixel, bin, set;

  // This lane's point: its warp's pixel, and its bin.
  __device__ int64_t own_pixel() const { return pixel + threadIdx.y; }
  __device__ int64_t own_bin() const { return bin + threadIdx.x; }
};

// One value for each point of a tile, in shared memory. Threads fill and empty it along the pixels,
// as device memory is laid out, and work on it along the bins: own() is of this lane's point.
template <typename T>
struct Tile {
  T values[kTileSets][kTileBins][kTilePixels + 1];  // + 1: the bins of a pixel lie in different banks

  __device__ T& own(int s) { return values[s][threadIdx.x][threadIdx.y]; }

  // Calls visit(value, set, k, pixel) for the values that this thread moves, also beyond the last point.
  template <typename Visit>
  __device__ void for_each_moved(const TilePlace& place, const Visit& visit) {
    const int thread = threadIdx.y * kWarp + threadIdx.x;
    const int column = thread % kTilePixels, row = thread / kTilePixels;
    for (int s = 0; s < kTileSets; ++s) {
      visit(values[s][row][column], place.set + s, place.bin + row, place.pixel + column);
    }
  }
};

// Fills a tile with masked weights. Returns, in every thread, whether any point is pooled.
template <typename W, typename T>
__device__ bool load_weights(const SplatArguments<W, T>& in, const TilePlace& place, Tile<T>& tile) {
  bool any = false;
  tile.for_each_moved(place, [&](T& weight, int64_t set, int64_t k, int64_t pixel) {
    weight = in.masked_weight(set, place.view, k, pixel);
    any |= takes_part(weight);
  });
  return __syncthreads_or(any) != 0;
}

// Neighbouring points of a ray, in one weight set, that fall into the same cell. A warp holds the
// points, a lane each, and finds all runs together.
template <typename T>
class Runs {
 public:
  __device__ Runs(bool is_member, int32_t cell, T weight) : cell_(cell), sum_(is_member ? weight : T(0)) {
    const int lane = threadIdx.x;
    const unsigned above = 0xfffffffeu << lane;  // lanes above this one
    const unsigned members = __ballot_sync(kAllLanes, is_member), before = members & ~above & ~(1u << lane);
    const int32_t cell_before = __shfl_sync(kAllLanes, cell, before != 0 ? 31 - __clz(before) : lane);
    heads_ = __ballot_sync(kAllLanes, is_member && (before == 0 || cell_before != cell));
    head_ = is_member ? 31 - __clz(heads_ & ~above) : -1;
    if (heads_ != members) {  // else every run is one point
      const int end = (heads_ & above) != 0 ? __ffs(heads_ & above) - 1 : kWarp;
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const T other = __shfl_down_sync(kAllLanes, sum_, offset);
        sum_ += lane + offset < end ? other : T(0);
      }
    }
  }

  __device__ bool empty() const { return heads_ == 0; }

  // Calls visit(cell, sum of weights, whether this lane's point is in the run) for every run.
  template <typename Visit>
  __device__ void for_each(const Visit& visit) const {
    for (unsigned left = heads_; left != 0; left &= left - 1) {
      const int head = __ffs(left) - 1;
      const int32_t cell = __shfl_sync(kAllLanes, cell_, head);
      const T sum = __shfl_sync(kAllLanes, sum_, head);
      visit(cell, sum, head_ == head);
    }
  }

 private:
  unsigned heads_;  // lanes whose point begins a run
  int head_;        // of the run that this lane's point is in, or -1
  int32_t cell_;
  T sum_;  // in a head: of the weights of its run
};

// Calls visit(splat, set of the tile, runs) for this warp's pixel and the bins of a tile of weights.
template <typename W, typename T, typename Cells, typename Visit>
__device__ void for_each_splat(
    const SplatArguments<W, T>& in,
    const Cells& cells,
    const TilePlace& place,
    Tile<T>& tile,
    const Visit& visit) {
  T weights[kTileSets];
  bool kept = false;
#pragma unroll
  for (int s = 0; s < kTileSets; ++s) {
    weights[s] = tile.own(s);
    kept |= takes_part(weights[s]);
  }
  if (!__any_sync(kAllLanes, kept)) {
    return;
  }
  typename Cells::Point point{};
  if (kept) {
    point = cells.lift(place.view, place.own_bin(), place.own_pixel());
  }
  for (int64_t p = in.next_splat(place.view, 0); p < in.shape.splats; p = in.next_splat(place.view, p + 1)) {
    const int32_t cell = kept ? cells.find(p, point) : -1;
#pragma unroll
    for (int s = 0; s < kTileSets; ++s) {
      if (place.set + s < in.shape.sets) {
        visit(p, s, Runs<T>(cell >= 0 && takes_part(weights[s]), cell, weights[s]));
      }
    }
  }
}

}  // namespace fsdbev
