/** Random words for keys that a guest or peer must not guess. */
#include <sys/random.h>

#include "addon.h"

namespace passt {

/** entropy(typedArray): fills it. @returns 0 or -errno. */
static napi_value entropy(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  size_t length = 0;
  auto* at = static_cast<uint8_t*>(arguments.bytes(0, &length));
  if (!at) return arguments.result(-EINVAL);
  while (length > 0) {
    const ssize_t got = getrandom(at, length, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return arguments.result(-errno);
    at += got;
    length -= static_cast<size_t>(got);
  }
  return arguments.result(0);
}

void registerEntropy(napi_env env, napi_value exports) { define(env, exports, "entropy", entropy); }

}  // namespace passt
