/** The addon's entry. */
#include "addon.h"

NAPI_MODULE_INIT() {
  passt::registerEngine(env, exports);
  passt::registerChecksum(env, exports);
  passt::registerEntropy(env, exports);
  passt::registerWatch(env, exports);
  passt::registerSandbox(env, exports);
  passt::registerPrivileges(env, exports);
  passt::registerDaemon(env, exports);
  passt::registerSeal(env, exports);
  passt::registerControl(env, exports);
  if (passt::registerNetlink) passt::registerNetlink(env, exports);
  if (passt::registerProcess) passt::registerProcess(env, exports);
  return exports;
}
