/** An addon for tests of the wall alone: makes any system call, as code would that has taken over the process. */
#include <node_api.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace {

constexpr struct {
  const char* name;
  long number;
} calls[] = {
    {"mmap", SYS_mmap},
    {"munmap", SYS_munmap},
    {"mprotect", SYS_mprotect},
    {"madvise", SYS_madvise},
    {"mremap", SYS_mremap},
    {"brk", SYS_brk},
    {"pkey_mprotect", SYS_pkey_mprotect},
    {"memfd_create", SYS_memfd_create},
    {"userfaultfd", SYS_userfaultfd},
    {"clone", SYS_clone},
    {"execveat", SYS_execveat},
    {"ptrace", SYS_ptrace},
    {"process_vm_readv", SYS_process_vm_readv},
    {"kill", SYS_kill},
    {"openat", SYS_openat},
    {"setns", SYS_setns},
    {"prctl", SYS_prctl},
    {"bpf", SYS_bpf},
    {"io_uring_setup", 425},
    {"socket", SYS_socket},
};

/** call(name, up to six integers) @returns what the kernel does, or -errno */
napi_value call(napi_env env, napi_callback_info info) {
  napi_value given[7];
  size_t count = 7;
  napi_get_cb_info(env, info, &count, given, nullptr, nullptr);
  char name[32] = {};
  size_t length = 0;
  napi_get_value_string_utf8(env, given[0], name, sizeof name, &length);
  int64_t values[6] = {};
  for (size_t i = 1; i < count; i++) napi_get_value_int64(env, given[i], &values[i - 1]);
  long result = -ENOSYS;
  for (const auto& known : calls) {
    if (strcmp(known.name, name) != 0) continue;
    result = syscall(known.number, values[0], values[1], values[2], values[3], values[4], values[5]);
    if (result < 0) result = -errno;
  }
  napi_value out = nullptr;
  napi_create_int64(env, result, &out);
  return out;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value function = nullptr;
  napi_create_function(env, "call", NAPI_AUTO_LENGTH, call, nullptr, &function);
  napi_set_named_property(env, exports, "call", function);
  return exports;
}
