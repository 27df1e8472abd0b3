/** The forms of the internet checksum as calls from JavaScript, where they are tested against each other. */
#include "addon.h"
#include "checksum.h"

namespace passt {

/** checksumVariants(): names of what runs here, the chosen one last. */
static napi_value checksumVariants(napi_env env, napi_callback_info) {
  ChecksumForm known[checksumFormMax];
  const size_t count = checksumForms(known);
  napi_value out = nullptr;
  napi_create_array(env, &out);
  for (size_t i = 0; i < count; i++) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, known[i].name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, out, static_cast<uint32_t>(i), name);
  }
  return out;
}

/** checksum(variant, bytes, from, length, start): the folded, not complemented, sum as a number in network order;
 * `start` is added, a folded sum in network order. -EINVAL outside of `bytes` or without such a variant. */
static napi_value checksum(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const std::string name = arguments.text(0);
  size_t room = 0;
  const auto* bytes = static_cast<const uint8_t*>(arguments.bytes(1, &room));
  const int32_t from = arguments.integer(2), length = arguments.integer(3), start = arguments.integer(4);
  if (!bytes || from < 0 || length < 0 || size_t(from) + size_t(length) > room) return arguments.result(-EINVAL);
  ChecksumForm known[checksumFormMax];
  const size_t count = checksumForms(known);
  for (size_t i = 0; i < count; i++) {
    if (name != known[i].name) continue;
    const uint8_t network[2] = {uint8_t(start >> 8), uint8_t(start)};
    uint8_t folded[2];
    store16(folded, foldSum(known[i].sum(bytes + from, static_cast<size_t>(length), load16(network))));
    return arguments.result(folded[0] << 8 | folded[1]);
  }
  return arguments.result(-EINVAL);
}

void registerChecksum(napi_env env, napi_value exports) {
  define(env, exports, "checksumVariants", checksumVariants);
  define(env, exports, "checksum", checksum);
}

}  // namespace passt
