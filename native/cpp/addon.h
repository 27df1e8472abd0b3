/**
 * How C++ functions become JavaScript functions.
 *
 * A hot function is `int32_t f(Self&, int32_t...)`: integers in, an integer out, >= 0 or -errno. `defineHot` makes a
 * JavaScript function of it whose `self` travels with the function, so that a call passes nothing but integers and
 * leaves nothing for the garbage collector: a 32-bit integer is no heap object in V8 without pointer compression.
 * Cold functions use Node-API directly.
 *
 * The addon is context-aware: what belongs to an environment (main thread or worker) hangs from its instance data
 * (set by registerEngine, once), and it may be loaded any number of times.
 */
#pragma once

#include <node_api.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace passt {

template <auto F>
struct Bound;

template <typename Self, typename... Ints, int32_t (*F)(Self&, Ints...)>
struct Bound<F> {
  static napi_value call(napi_env env, napi_callback_info info) {
    return invoke(env, info, std::index_sequence_for<Ints...>{});
  }

 private:
  template <size_t... I>
  static napi_value invoke(napi_env env, napi_callback_info info, std::index_sequence<I...>) {
    constexpr size_t count = sizeof...(Ints);
    napi_value arguments[count + 1];
    int32_t values[count + 1] = {};
    size_t given = count;
    void* self = nullptr;
    napi_get_cb_info(env, info, &given, arguments, nullptr, &self);
    bool whole = true;
    ((whole &= napi_get_value_int32(env, arguments[I], &values[I]) == napi_ok), ...);
    const int32_t result = whole ? F(*static_cast<Self*>(self), values[I]...) : -EINVAL;
    napi_value out = nullptr;
    napi_create_int32(env, result, &out);
    return out;
  }
};

/** Puts a function on an object. `self` must live until the environment ends. */
inline void define(napi_env env, napi_value object, const char* name, napi_callback callback, void* self = nullptr) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, self, &function);
  napi_set_named_property(env, object, name, function);
}

/** As `define`, for `int32_t F(Self&, int32_t...)`. */
template <auto F, typename Self>
void defineHot(napi_env env, napi_value object, const char* name, Self* self) {
  define(env, object, name, Bound<F>::call, self);
}

/** The arguments of a cold function. Those not given, or of another type, read as 0 or empty. */
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    napi_get_cb_info(env, info, &given_, values_, nullptr, &self_);
  }
  template <typename Self>
  Self& self() const {
    return *static_cast<Self*>(self_);
  }
  napi_value at(size_t index) const { return values_[index]; }
  int32_t integer(size_t index) const {
    int32_t value = 0;
    napi_get_value_int32(env_, values_[index], &value);
    return value;
  }
  /** A BigInt of 64 bits without a sign. */
  uint64_t word64(size_t index) const {
    uint64_t value = 0;
    bool whole = false;
    napi_get_value_bigint_uint64(env_, values_[index], &value, &whole);
    return value;
  }
  /** The bytes of a string as UTF-8, at most 4095 of them. */
  std::string text(size_t index) const {
    char buffer[4096];
    size_t length = 0;
    if (napi_get_value_string_utf8(env_, values_[index], buffer, sizeof buffer, &length) != napi_ok) length = 0;
    return std::string(buffer, length);
  }
  /** Memory of a typed array; null (and 0 bytes) if the argument is none. */
  void* bytes(size_t index, size_t* length) const {
    void* data = nullptr;
    bool typed = false;
    *length = 0;
    if (napi_is_typedarray(env_, values_[index], &typed) != napi_ok || !typed) return nullptr;
    napi_typedarray_type type;
    size_t count = 0;
    napi_get_typedarray_info(env_, values_[index], &type, &count, &data, nullptr, nullptr);
    *length = count * elementBytes(type);
    return data;
  }
  napi_value result(int32_t value) const {
    napi_value out = nullptr;
    napi_create_int32(env_, value, &out);
    return out;
  }

 private:
  static size_t elementBytes(napi_typedarray_type type) {
    switch (type) {
      case napi_int16_array:
      case napi_uint16_array:
        return 2;
      case napi_int32_array:
      case napi_uint32_array:
      case napi_float32_array:
        return 4;
      case napi_float64_array:
      case napi_bigint64_array:
      case napi_biguint64_array:
        return 8;
      default:
        return 1;
    }
  }

  static constexpr size_t countMax = 8;
  napi_env env_;
  size_t given_ = countMax;
  napi_value values_[countMax] = {};
  void* self_ = nullptr;
};

/** Each room adds its functions to the addon's exports. */
void registerEngine(napi_env env, napi_value exports);
void registerChecksum(napi_env env, napi_value exports);
void registerEntropy(napi_env env, napi_value exports);
void registerWatch(napi_env env, napi_value exports);
void registerSandbox(napi_env env, napi_value exports);
void registerPrivileges(napi_env env, napi_value exports);
void registerDaemon(napi_env env, napi_value exports);
void registerSeal(napi_env env, napi_value exports);
void registerControl(napi_env env, napi_value exports);
/** Present when their files are part of the build. */
__attribute__((weak)) void registerNetlink(napi_env env, napi_value exports);
__attribute__((weak)) void registerProcess(napi_env env, napi_value exports);

}  // namespace passt
