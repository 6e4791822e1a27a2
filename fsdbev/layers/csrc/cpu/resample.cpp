// CPU kernel of resample_image. Computes the visible part of the resized image only, in Pillow's
// arithmetic for images of bytes, so that the results have the same bits.
#include "side_by_side.h"
#include "weighted_sums.h"
#include "windows.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

namespace fsdbev {
namespace {

constexpr int64_t kColours = 3;
static_assert(kLanes == kColours * kRows, "a pixel of kRows rows fills the lanes");
// Columns of the result that are computed at a time.
constexpr int64_t kStripe = 5 * kLanes;
// Bytes that are copied at a time, and how many may be read beyond the last of the planes.
constexpr int64_t kOverrun = 16;
// Limits for which rotated positions fit into 16.16 fixed point.
constexpr int64_t kLargestOutput = 1 << 14, kLargestImage = 1 << 20;

// (3, rows, pitch) planes in whole lanes.
struct Planes {
  int64_t rows, pitch;
  at::Tensor memory;

  Planes(int64_t rows, int64_t columns, const at::TensorOptions& options)
      : rows(rows),
        pitch((columns + kLanes - 1) / kLanes * kLanes),
        memory(at::empty({kColours * rows * pitch + kOverrun}, options)) {}

  uint8_t* at(int64_t colour, int64_t row) const {
    return memory.mutable_data_ptr<uint8_t>() + (colour * rows + row) * pitch;
  }
};

// Resamples the columns of all rows that `down` needs; values beyond the last column are 0. kRows rows
// are interleaved: pixel by pixel, colour by colour, the values of these rows. Missing rows are copies
// of the last one.
void resample_columns(const at::Tensor& image, const Part& across, const Part& down, const Planes& planes) {
  const int64_t row_bytes = kColours * image.size(1), last = down.needed - 1;
  const uint8_t* from = image.const_data_ptr<uint8_t>() + down.begin * row_bytes + across.begin * kColours;
  std::vector<uint8_t> original(across.needed * kLanes), resampled(planes.pitch * kLanes);
  for (int64_t row = 0; row <= last; row += kRows) {
    std::array<const uint8_t*, kRows> sources;
    std::array<std::array<uint8_t*, kRows>, kColours> targets;
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t own = std::min(row + r, last);
      sources[r] = from + own * row_bytes;
      for (int64_t colour = 0; colour < kColours; ++colour) {
        targets[colour][r] = planes.at(colour, own);
      }
    }
    lay_side_by_side(sources, kColours * across.needed, original.data());
    weighted_sums(original.data(), kLanes, across.windows, resampled.data(), kLanes);
    for (int64_t colour = 0; colour < kColours; ++colour) {
      lay_apart<kLanes>(resampled.data() + colour * kRows, planes.pitch, targets[colour]);
    }
  }
}

// Resamples the rows of a stripe, which goes to `column` of the planes.
void resample_rows(const Planes& stripe, const Part& down, const Planes& planes, int64_t column) {
  const int64_t lanes = std::min(stripe.pitch, planes.pitch - column);
  for (int64_t colour = 0; colour < kColours; ++colour) {
    for (int64_t lane = 0; lane < lanes; lane += kLanes) {
      uint8_t* to = planes.at(colour, 0) + column + lane;
      weighted_sums(stripe.at(colour, 0) + lane, stripe.pitch, down.windows, to, planes.pitch);
    }
  }
}

// Computes the visible part of the resized image, one stripe of columns at a time, so that the inputs
// of both passes stay in the caches.
Planes resample(const at::Tensor& image, const Windows& across, const Windows& down) {
  const Part rows = down.part(0, down.size());
  const Planes planes(rows.size(), across.size(), image.options());
  const Planes stripe(rows.needed, std::min(kStripe, across.size()), image.options());
  for (int64_t column = 0; column < across.size(); column += kStripe) {
    resample_columns(image, across.part(column, kStripe), rows, stripe);
    resample_rows(stripe, rows, planes, column);
  }
  return planes;
}

// Puts planes at (left, top) of the (3, H, W) output, which is zero.
void place(const Planes& planes, int64_t left, int64_t top, int64_t columns, const at::Tensor& output) {
  const int64_t height = output.size(1), width = output.size(2);
  uint8_t* to = output.mutable_data_ptr<uint8_t>() + top * width + left;
  for (int64_t colour = 0; colour < kColours; ++colour) {
    for (int64_t row = 0; row < planes.rows; ++row) {
      std::copy_n(planes.at(colour, row), columns, to + (colour * height + row) * width);
    }
  }
}

// Positions of a row of output pixels along an axis of an image, in 16.16 fixed point: pixel i reads
// (start + step * i) >> 16.
struct Line {
  int64_t start, step;

  int64_t at(int64_t i) const { return (start + step * i) >> 16; }

  // Returns the number of pixels from i on that read the same position as i.
  int64_t steady(int64_t i) const {
    const int64_t beyond = (start + step * i) & 0xffff;
    if (step == 0) {
      return std::numeric_limits<int64_t>::max();
    }
    return step > 0 ? up((1 << 16) - beyond, step) : beyond / -step + 1;
  }

  // Narrows begin .. end - 1 to the pixels that read positions 0 .. size - 1.
  void narrow(int64_t size, int64_t& begin, int64_t& end) const {
    const int64_t limit = size << 16;
    if (step == 0) {
      end = start >= 0 && start < limit ? end : begin;
    } else if (step > 0) {
      begin = std::max(begin, up(-start, step));
      end = std::min(end, up(limit - start, step));
    } else {
      begin = std::max(begin, up(start - limit + 1, -step));
      end = std::min(end, up(start + 1, -step));
    }
  }

  // The quotient, rounded up.
  static int64_t up(int64_t number, int64_t divisor) {
    return number > 0 ? (number + divisor - 1) / divisor : -(-number / divisor);
  }
};

// `count` output pixels from `to` on that read consecutive values of a plane from `from` on.
struct Run {
  int64_t to, from, count;
};

// Finds the runs of the pixels begin .. end - 1, all of which read positions inside the plane.
void find_runs(
    const Line& across,
    const Line& down,
    int64_t pitch,
    int64_t begin,
    int64_t end,
    std::vector<Run>& runs) {
  const Line drift{across.start, across.step - (1 << 16)};  // beyond a step of one pixel
  runs.clear();
  while (begin < end) {
    const int64_t count = std::min({end - begin, drift.steady(begin), down.steady(begin)});
    runs.push_back({begin, down.at(begin) * pitch + across.at(begin), count});
    begin += count;
  }
}

// As `place`, with rotation: pixel (x, y) reads ((t0 x + t1 y + t2) >> 16, (t3 x + t4 y + t5) >> 16)
// for the coefficients t in `turn`.
void place_turned(
    const Planes& planes,
    int64_t left,
    int64_t top,
    int64_t columns,
    at::IntArrayRef turn,
    const at::Tensor& output) {
  const int64_t height = output.size(1), width = output.size(2);
  uint8_t* to = output.mutable_data_ptr<uint8_t>();
  std::vector<Run> runs;
  std::vector<uint8_t> pixels(width + kOverrun);
  for (int64_t row = 0; row < height; ++row) {
    const Line across{turn[1] * row + turn[2] - (left << 16), turn[0]};
    const Line down{turn[4] * row + turn[5] - (top << 16), turn[3]};
    int64_t begin = 0, end = width;
    across.narrow(columns, begin, end);
    down.narrow(planes.rows, begin, end);
    find_runs(across, down, planes.pitch, begin, end, runs);
    for (int64_t colour = 0; colour < kColours && begin < end; ++colour) {
      const uint8_t* from = planes.at(colour, 0);
      for (const Run& run : runs) {
        // Copies whole steps; the next run overwrites the excess.
        for (int64_t i = 0; i < run.count; i += kOverrun) {
          std::memcpy(pixels.data() + run.to + i, from + run.from + i, kOverrun);
        }
      }
      std::copy(pixels.begin() + begin, pixels.begin() + end, to + (colour * height + row) * width + begin);
    }
  }
}

void check_sizes(const char* name, at::IntArrayRef sizes, const char* meaning, int64_t least, int64_t most) {
  TORCH_CHECK_VALUE(sizes.size() == 2, name, " must be ", meaning, ", got ", sizes);
  for (const int64_t size : sizes) {
    TORCH_CHECK_VALUE(
        size >= least && size <= most, name, " must be ", meaning, " in ", least, " .. ", most, ", got ", sizes);
  }
}

void check(
    const at::Tensor& image,
    at::IntArrayRef resized,
    at::IntArrayRef crop,
    at::IntArrayRef output,
    at::IntArrayRef turn) {
  TORCH_CHECK_VALUE(
      image.dim() == 3 && image.size(2) == kColours && image.numel() > 0,
      "image must be (height, width, 3), not empty, got ", image.sizes());
  TORCH_CHECK_VALUE(image.scalar_type() == at::kByte, "image must be uint8, got ", image.scalar_type());
  const int64_t image_sizes[] = {image.size(1), image.size(0)};
  check_sizes("image", image_sizes, "width, height", 1, kLargestImage);
  check_sizes("resized", resized, "width, height", 1, kLargestImage);
  check_sizes("crop", crop, "left, top", -kLargestImage, kLargestImage);
  check_sizes("output", output, "width, height", 0, kLargestOutput);
  TORCH_CHECK_VALUE(turn.empty() || turn.size() == 6, "turn must be none or six numbers, got ", turn);
  constexpr int64_t kMost = int64_t{1} << 40;
  for (const int64_t number : turn) {
    TORCH_CHECK_VALUE(number >= -kMost && number <= kMost, "turn must be within +-2^40 of 1/65536 px, got ", turn);
  }
}

at::Tensor resample_image_cpu(
    const at::Tensor& image,
    at::IntArrayRef resized,
    at::IntArrayRef crop,
    at::IntArrayRef output,
    bool flip,
    at::IntArrayRef turn) {
  check(image, resized, crop, output, turn);
  const auto result = at::zeros({kColours, output[1], output[0]}, image.options());
  const Seen columns(resized[0], crop[0], output[0]), rows(resized[1], crop[1], output[1]);
  if (columns.size() == 0 || rows.size() == 0) {
    return result;
  }
  Windows across(image.size(1), resized[0], columns);
  const Windows down(image.size(0), resized[1], rows);
  if (flip) {
    across.reverse();
  }
  const int64_t left = flip ? output[0] - columns.offset - columns.size() : columns.offset;
  const Planes planes = resample(image.contiguous(), across, down);
  if (turn.empty()) {
    place(planes, left, rows.offset, columns.size(), result);
  } else {
    place_turned(planes, left, rows.offset, columns.size(), turn, result);
  }
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(fsdbev, CPU, m) { m.impl("resample_image", &resample_image_cpu); }

}  // namespace fsdbev
