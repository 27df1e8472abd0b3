/** virtio's header for a row of the frame table that goes to the guest. */
#pragma once

#include <cstdint>

#include "engine.h"
#include "vnet-header.h"

namespace passt {

/** Says what is left to do to a row's frame. @returns false if its columns contradict each other */
bool describeRow(const Engine& engine, int32_t row, const uint8_t* frame, int32_t length, VnetHeader* header);

}  // namespace passt
