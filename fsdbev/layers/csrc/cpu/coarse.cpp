#include "coarse.h"

#include "side_by_side.h"

#include <algorithm>
#include <memory>

#if defined(__x86_64__) && defined(__GNUC__)
#define FSDBEV_X86
#include <immintrin.h>
#endif

// Pillow rounds to bytes between the passes. Here kBetweenBits more are kept, so that values between the
// passes are off Pillow's by 1/2 at most and the error of the weights, which is below 1/7 where an axis
// shrinks up to kMostCoarseShrink times. A window's absolute weights sum up to less than 1.3. Results are
// less than 1 off before they are rounded, then, and at most 1 after.
namespace fsdbev {
namespace {

constexpr int64_t kColours = 3;
constexpr int kBetweenBits = 7;
constexpr int32_t kMostBetween = 255 << kBetweenBits;
constexpr int kFirstShift = kCoarseBits - kBetweenBits, kSecondShift = kCoarseBits + kBetweenBits;

constexpr int32_t half(int bits) { return 1 << (bits - 1); }

// The window's sum over values that are `stride` apart, of which there are `size`.
template <typename Value>
int32_t sum(const Window& window, const Value* values, int64_t stride, int64_t size) {
  int32_t result = 0;
  for (int64_t i = 0; i < window.count; ++i) {
    const int64_t place = window.first + 2 * i;
    result += coarse_even(window.weights[i]) * values[place * stride];
    if (place + 1 < size) {
      result += coarse_odd(window.weights[i]) * values[(place + 1) * stride];
    }
  }
  return result;
}

void resample_plainly(
    const uint8_t* image,
    int64_t row_bytes,
    const Part& across,
    const Part& down,
    const std::array<uint8_t*, 3>& planes,
    int64_t pitch) {
  const int64_t columns = across.size(), values = columns * kColours;
  std::vector<int16_t> between(down.needed * values);
  for (int64_t row = 0; row < down.needed; ++row) {
    for (int64_t i = 0; i < values; ++i) {
      const uint8_t* from = image + row * row_bytes + i / columns;
      const int32_t found = sum(across.windows[i % columns], from, kColours, across.needed);
      between[row * values + i] = static_cast<int16_t>(
          std::clamp((found + half(kFirstShift)) >> kFirstShift, 0, kMostBetween));
    }
  }
  for (int64_t row = 0; row < down.size(); ++row) {
    for (int64_t i = 0; i < values; ++i) {
      const int32_t found = sum(down.windows[row], between.data() + i, values, down.needed);
      planes[i / columns][row * pitch + i % columns] =
          static_cast<uint8_t>(std::clamp((found + half(kSecondShift)) >> kSecondShift, 0, 255));
    }
  }
}

#if defined(FSDBEV_X86)
#define FSDBEV_AVX2 __attribute__((target("avx2")))

// The two values that a multiplication takes lie beside each other, for kLanes lanes.
constexpr int64_t kPair = 2 * kLanes;
// 32-bit sums, or pairs of 16-bit values, to a vector.
constexpr int64_t kVector = 8, kVectors = kLanes / kVector;
static_assert(kVectors == 6 && kLanes == kColours * kRows, "");

FSDBEV_AVX2 inline __m256i load(const int16_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

template <typename T>
FSDBEV_AVX2 inline __m256i load_halves(const T* low, const T* high) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

template <typename T>
FSDBEV_AVX2 inline void store(T* to, __m256i vector) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), vector);
}

// Four pixels of kRows rows: pair by pair, colour by colour, row by row. Reads 16 bytes a row.
FSDBEV_AVX2 inline void lay_four(const std::array<const uint8_t*, kRows>& rows, int64_t offset, int16_t* to) {
  const __m256i order = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1));
  __m256i block[8], mixed[8];
  for (int64_t r = 0; r < 8; ++r) {
    const int64_t low = r < 4 ? r : r + 4;  // so that the halves that are widened at a time follow on
    block[r] = _mm256_shuffle_epi8(load_halves(rows[low] + offset, rows[low + 4] + offset), order);
  }
  for (int64_t round = 0; round < 3; ++round) {  // transposes the pairs of bytes
    for (int64_t r = 0; r < 4; ++r) {
      mixed[2 * r] = _mm256_unpacklo_epi16(block[r], block[r + 4]);
      mixed[2 * r + 1] = _mm256_unpackhi_epi16(block[r], block[r + 4]);
    }
    std::copy_n(mixed, 8, block);
  }
  for (int64_t i = 0; i < 2 * kColours; ++i) {
    store(to + 2 * kRows * i, _mm256_unpacklo_epi8(block[i], _mm256_setzero_si256()));
    store(to + 2 * kRows * i + kRows, _mm256_unpackhi_epi8(block[i], _mm256_setzero_si256()));
  }
}

// The pixels of kRows rows in pairs, and zeros beyond, up to a multiple of four.
FSDBEV_AVX2 void lay_rows(std::array<const uint8_t*, kRows> rows, int64_t pixels, int16_t* to) {
  constexpr int64_t kFour = 4 * kColours;
  int64_t left = kColours * pixels, offset = 0;
  for (; left >= 16; left -= kFour, offset += kFour, to += 2 * kPair) {
    lay_four(rows, offset, to);
  }
  uint8_t rest[kRows][32] = {};
  for (int64_t r = 0; r < kRows; ++r) {
    std::copy_n(rows[r] + offset, left, rest[r]);
    rows[r] = rest[r];
  }
  for (offset = 0; offset < left; offset += kFour, to += 2 * kPair) {
    lay_four(rows, offset, to);
  }
}

// Eight columns of kRows rows, kLanes apart: in pairs of rows, `stride` apart.
FSDBEV_AVX2 inline void lay_eight(const int16_t* from, int16_t* to, int64_t stride) {
  for (int64_t rows = 0; rows < kRows; rows += 8, from += 8) {
    __m256i block[4], mixed[4];
    for (int64_t c = 0; c < 4; ++c) {
      block[c] = load_halves(from + c * kLanes, from + (c + 4) * kLanes);
    }
    for (int64_t round = 0; round < 2; ++round) {  // transposes the pairs of values
      for (int64_t c = 0; c < 2; ++c) {
        mixed[2 * c] = _mm256_unpacklo_epi32(block[c], block[c + 2]);
        mixed[2 * c + 1] = _mm256_unpackhi_epi32(block[c], block[c + 2]);
      }
      std::copy_n(mixed, 4, block);
    }
    for (int64_t i = 0; i < 4; ++i, to += stride) {
      store(to, block[i]);
    }
  }
}

// 16-bit values of 16 sums. Packing works within the halves of a vector, hence the permutation.
FSDBEV_AVX2 inline __m256i pack(__m256i a, __m256i b) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

FSDBEV_AVX2 inline void store_clipped(int16_t* to, const __m256i* sums) {
  for (int64_t v = 0; v < kVectors; v += 2) {
    const __m256i values = _mm256_min_epi16(pack(sums[v], sums[v + 1]), _mm256_set1_epi16(kMostBetween));
    store(to + kVector * v, _mm256_max_epi16(values, _mm256_setzero_si256()));
  }
}

FSDBEV_AVX2 inline void store_clipped(uint8_t* to, const __m256i* sums) {
  for (int64_t v = 0; v < kVectors; v += 2) {
    const __m256i values = pack(sums[v], sums[v + 1]);
    const __m128i low = _mm256_castsi256_si128(values), high = _mm256_extracti128_si256(values, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + kVector * v), _mm_packus_epi16(low, high));
  }
}

// The windows' results for kLanes lanes, to_stride apart.
template <int kShift, typename T>
FSDBEV_AVX2 void sum_pairs(const int16_t* pairs, const std::vector<Window>& windows, T* to, int64_t to_stride) {
  for (const Window& window : windows) {
    const int16_t* pair = pairs + window.first / 2 * kPair;
    __m256i sums[kVectors];
    std::fill_n(sums, kVectors, _mm256_set1_epi32(half(kShift)));
    for (int64_t i = 0; i < window.count; ++i, pair += kPair) {
      const __m256i weights = _mm256_set1_epi32(window.weights[i]);
      for (int64_t v = 0; v < kVectors; ++v) {
        sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(load(pair + 2 * kVector * v), weights));
      }
    }
    for (__m256i& sum : sums) {
      sum = _mm256_srai_epi32(sum, kShift);
    }
    store_clipped(to, sums);
    to += to_stride;
  }
}

int64_t up(int64_t number, int64_t step) { return (number + step - 1) / step * step; }

std::unique_ptr<int16_t[]> room(int64_t values) { return std::unique_ptr<int16_t[]>(new int16_t[values]); }

// As resample_columns and resample_rows of the exact weights; between the passes lie, for each colour and
// kLanes columns, pairs of rows.
FSDBEV_AVX2 void resample_by_avx2(
    const uint8_t* image,
    int64_t row_bytes,
    const Part& across,
    const Part& down,
    const std::array<uint8_t*, 3>& planes,
    int64_t pitch) {
  const int64_t columns = up(across.size(), kLanes), rows = up(down.needed, kRows);
  const auto pairs = room(up(across.needed, 4) * kLanes), resampled = room(columns * kLanes);
  const auto between = room(kColours * columns * rows);
  for (int64_t row = 0; row < rows; row += kRows) {
    std::array<const uint8_t*, kRows> sources;
    for (int64_t r = 0; r < kRows; ++r) {
      sources[r] = image + std::min(row + r, down.needed - 1) * row_bytes;
    }
    lay_rows(sources, across.needed, pairs.get());
    sum_pairs<kFirstShift>(pairs.get(), across.windows, resampled.get(), kLanes);
    for (int64_t colour = 0; colour < kColours; ++colour) {
      for (int64_t column = 0; column < across.size(); column += 8) {
        const int64_t lane = column % kLanes, place = colour * columns * rows + (column - lane) * rows;
        int16_t* to = between.get() + place + row * kLanes + 2 * lane;
        lay_eight(resampled.get() + column * kLanes + colour * kRows, to, kPair);
      }
    }
  }
  for (int64_t colour = 0; colour < kColours; ++colour) {
    for (int64_t column = 0; column < columns; column += kLanes) {
      const int16_t* from = between.get() + (colour * columns + column) * rows;
      sum_pairs<kSecondShift>(from, down.windows, planes[colour] + column, pitch);
    }
  }
}
#endif

using Resample = decltype(&resample_coarsely);

Resample fastest() {
#if defined(FSDBEV_X86)
  if (__builtin_cpu_supports("avx2")) {
    return resample_by_avx2;
  }
#endif
  return resample_plainly;
}

}  // namespace

void resample_coarsely(
    const uint8_t* image,
    int64_t row_bytes,
    const Part& across,
    const Part& down,
    const std::array<uint8_t*, 3>& planes,
    int64_t pitch) {
  static const Resample resample = fastest();
  resample(image, row_bytes, across, down, planes, pitch);
}

}  // namespace fsdbev
