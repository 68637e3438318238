// What mlx-rs expects and mlx-c has only on ARM and macOS: the accessors of 16-bit floats, whose C types exist nowhere
// else, and the clock that seeds mlx-rs's default random state.
#include <cstdint>
#include <cstring>
#include <ctime>

#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

namespace {
template <class T>
const uint16_t* data(const mlx_array array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).data<T>());
  } catch (std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

template <class T>
int item(uint16_t* out, const mlx_array array) {
  try {
    auto value = mlx_array_get_(array).item<T>();
    static_assert(sizeof(value) == 2);
    std::memcpy(out, &value, 2);
    return 0;
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}
}  // namespace

extern "C" {
const uint16_t* mlx_array_data_float16(const mlx_array array) { return data<mlx::core::float16_t>(array); }
const uint16_t* mlx_array_data_bfloat16(const mlx_array array) { return data<mlx::core::bfloat16_t>(array); }
int mlx_array_item_float16(uint16_t* out, const mlx_array array) { return item<mlx::core::float16_t>(out, array); }
int mlx_array_item_bfloat16(uint16_t* out, const mlx_array array) { return item<mlx::core::bfloat16_t>(out, array); }

uint64_t mach_approximate_time(void) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000ull + uint64_t(now.tv_nsec);
}
}
