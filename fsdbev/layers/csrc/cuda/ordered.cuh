// The deterministic forward pass on CUDA devices.
#pragma once

#include "../lift_splat.h"

namespace fsdbev {

// As splat_cells, with every sum in the order of its points; arguments are checked. cells: (P, D, pixels).
at::Tensor ordered_splat(
    const LiftSplatShape& shape,
    const at::Tensor& weights,
    const at::Tensor& foreground,
    const at::Tensor& context,
    const at::Tensor& cells,
    const at::Tensor& view,
    const at::Tensor& output,
    double depth_threshold,
    double foreground_threshold);

}  // namespace fsdbev
