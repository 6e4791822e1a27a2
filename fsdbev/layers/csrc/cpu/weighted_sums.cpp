#include "weighted_sums.h"

#include <algorithm>

#if defined(__x86_64__) && defined(__GNUC__)
#define FSDBEV_X86
#include <immintrin.h>
#endif

namespace fsdbev {
namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

void sum_plainly(
    const uint8_t* from,
    int64_t from_stride,
    const std::vector<Window>& windows,
    uint8_t* to,
    int64_t to_stride) {
  for (const Window& window : windows) {
    const uint8_t* values = from + window.first * from_stride;
    int32_t sums[kLanes];
    std::fill_n(sums, kLanes, kHalf);
    for (int64_t i = 0; i < window.count; ++i, values += from_stride) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] += window.weights[i] * values[lane];
      }
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      to[lane] = static_cast<uint8_t>(std::clamp(sums[lane] >> kWeightBits, 0, 255));
    }
    to += to_stride;
  }
}

#if defined(FSDBEV_X86)
// The bytes of 32 clipped values. Packing works within the halves of a vector, hence the permutation.
__attribute__((target("avx2"))) inline __m256i pack(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// The sums stay in registers, which compilers do not manage by themselves.
__attribute__((target("avx2"))) void sum_by_avx2(
    const uint8_t* from,
    int64_t from_stride,
    const std::vector<Window>& windows,
    uint8_t* to,
    int64_t to_stride) {
  constexpr int64_t kVector = 8, kVectors = kLanes / kVector;
  static_assert(kVectors == 6, "");
  for (const Window& window : windows) {
    const uint8_t* values = from + window.first * from_stride;
    __m256i sums[kVectors];
    std::fill_n(sums, kVectors, _mm256_set1_epi32(kHalf));
    for (int64_t i = 0; i < window.count; ++i, values += from_stride) {
      const __m256i weight = _mm256_set1_epi32(window.weights[i]);
      for (int64_t v = 0; v < kVectors; ++v) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values + kVector * v));
        sums[v] = _mm256_add_epi32(sums[v], _mm256_mullo_epi32(weight, _mm256_cvtepu8_epi32(bytes)));
      }
    }
    for (__m256i& sum : sums) {
      sum = _mm256_srai_epi32(sum, kWeightBits);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), pack(sums[0], sums[1], sums[2], sums[3]));
    const __m256i rest = pack(sums[4], sums[5], sums[4], sums[5]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4 * kVector), _mm256_castsi256_si128(rest));
    to += to_stride;
  }
}
#endif

using Sum = decltype(&sum_plainly);

Sum fastest_sum() {
#if defined(FSDBEV_X86)
  if (__builtin_cpu_supports("avx2")) {
    return sum_by_avx2;
  }
#endif
  return sum_plainly;
}

}  // namespace

void weighted_sums(
    const uint8_t* from,
    int64_t from_stride,
    const std::vector<Window>& windows,
    uint8_t* to,
    int64_t to_stride) {
  static const Sum sum = fastest_sum();
  sum(from, from_stride, windows, to, to_stride);
}

}  // namespace fsdbev
