// Feature maps with their channels last, so that a warp reads or adds the channels of one place at once.
#pragma once

#include "launch.cuh"

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>

namespace fsdbev {

// Rows of channels are padded to whole groups of this many, which a lane reads at once.
constexpr int kGroup = 4;

// A slice: the channels that a warp handles at once.
constexpr int kSlice = kWarp * kGroup;

__host__ __device__ inline int64_t slices_of(int64_t channels) { return (channels + kSlice - 1) / kSlice; }

template <typename T>
struct alignas(16) Group {
  T values[kGroup];
};

template <typename T>
__device__ Group<T> load_group(const T* from) {
  return *reinterpret_cast<const Group<T>*>(from);
}

template <typename T>
__device__ void store_group(T* to, const Group<T>& group) {
  *reinterpret_cast<Group<T>*>(to) = group;
}

// Rows x columns of each map, whose rows are from_pitch apart; the result's are to_pitch apart and
// zero beyond the source's rows.
struct Transposition {
  int64_t maps, rows, columns, from_pitch, to_pitch;

  __host__ __device__ int64_t row_tiles() const { return (to_pitch + kWarp - 1) / kWarp; }
  __host__ __device__ int64_t column_tiles() const { return (columns + kWarp - 1) / kWarp; }
  __host__ __device__ int64_t tiles() const { return maps * row_tiles() * column_tiles(); }
};

// One block of kWarp x kWarpsPerBlock threads a tile.
template <typename From, typename To>
__global__ void transpose_kernel(const Transposition size, const From* from, To* to) {
  __shared__ To tile[kWarp][kWarp + 1];
  const int64_t map = blockIdx.x / (size.row_tiles() * size.column_tiles());
  const int64_t first_row = blockIdx.x / size.column_tiles() % size.row_tiles() * kWarp;
  const int64_t first_column = blockIdx.x % size.column_tiles() * kWarp;
  for (int i = threadIdx.y; i < kWarp; i += kWarpsPerBlock) {
    const int64_t row = first_row + i, column = first_column + threadIdx.x;
    const bool inside = row < size.rows && column < size.columns;
    tile[i][threadIdx.x] = inside ? static_cast<To>(from[(map * size.rows + row) * size.from_pitch + column]) : To(0);
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kWarp; i += kWarpsPerBlock) {
    const int64_t row = first_row + threadIdx.x, column = first_column + i;
    if (row < size.to_pitch && column < size.columns) {
      to[(map * size.columns + column) * size.to_pitch + row] = tile[threadIdx.x][i];
    }
  }
}

template <typename From, typename To>
void transpose(const Transposition& size, const From* from, To* to) {
  if (size.tiles() > 0) {
    const dim3 threads(kWarp, kWarpsPerBlock);
    transpose_kernel<<<blocks_for(size.tiles(), 1), threads, 0, c10::cuda::getCurrentCUDAStream()>>>(size, from, to);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

inline int64_t padded_channels(int64_t channels) { return (channels + kGroup - 1) / kGroup * kGroup; }

// Whether groups can be read from the start of a tensor.
inline bool is_aligned(const at::Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % alignof(Group<float>) == 0;
}

// (maps, C, positions) of any floating type -> (maps, positions, padded C) of type T, zero-filled.
template <typename T>
at::Tensor channels_last(const at::Tensor& tensor) {
  const int64_t maps = tensor.size(0), channels = tensor.size(1), positions = tensor.size(2);
  const int64_t padded = padded_channels(channels);
  constexpr at::ScalarType type = c10::CppTypeToScalarType<T>::value;
  const at::Tensor rows = tensor.transpose(1, 2);
  if (padded == channels && rows.is_contiguous() && is_aligned(rows)) {  // they are last already
    return rows.to(type);
  }
  const at::Tensor source = tensor.contiguous();
  const at::Tensor result = at::empty({maps, positions, padded}, tensor.options().dtype(type));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, tensor.scalar_type(), "channels_last", [&] {
    transpose(
        Transposition{maps, channels, positions, positions, padded}, source.const_data_ptr<scalar_t>(),
        result.mutable_data_ptr<T>());
  });
  return result;
}

// Back: (maps, positions, padded C) -> the contiguous `to`, (maps, C, positions).
template <typename T>
void channels_first(const at::Tensor& rows, int64_t channels, const at::Tensor& to) {
  const int64_t maps = rows.size(0), positions = rows.size(1);
  transpose(
      Transposition{maps, positions, channels, rows.size(2), positions}, rows.const_data_ptr<T>(),
      to.mutable_data_ptr<T>());
}

}  // namespace fsdbev
