/** Makes engines, attaches their memory, and takes them down with their environment. */
#include "engine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <new>

#include "addon.h"
#include "namespace.h"
#include "pcap.h"
#include "splice.h"

namespace passt {

/** Engines of one environment. They are few, and functions bound to them may outlive the object that they were given
 * on, so their memory is kept until the environment goes; `close` gives back what is large. */
struct Environment {
  struct Node {
    Engine engine;
    Node* next;
  };
  Node* engines = nullptr;
  ~Environment() {
    while (engines) {
      Node* const gone = engines;
      engines = gone->next;
      delete gone;
    }
  }
};

static void closeEngine(Engine& engine) {
  leaveHostLoop(engine);
  forgetSignals(engine);
  leaveNamespace(engine);
  if (engine.epollFd >= 0) ::close(engine.epollFd);
  if (engine.signalFd >= 0) ::close(engine.signalFd);
  engine.epollFd = engine.signalFd = -1;
  engine.spareSockets.close();
  closeSplicer(engine);
  closeListenerScan(engine);
  delete engine.pcap;
  engine.pcap = nullptr;
  if (engine.skipBlock) munmap(engine.skipBlock, skipBlockBytes);
  engine.skipBlock = nullptr;
  engine.arena = nullptr;
  engine.columns = nullptr;
  engine.gather = nullptr;
  engine.relayMemory = nullptr;
  engine.relayEnds = nullptr;
}

Engine::~Engine() {
  closeEngine(*this);
  while (owned) {
    Owned* const gone = owned;
    owned = gone->nextOwned;
    delete gone;
  }
}

/** Keeps a typed array alive and returns its memory; null if it is not one of at least `bytes`. */
static void* hold(Engine& engine, size_t slot, napi_value array, size_t bytes) {
  bool typed = false;
  if (napi_is_typedarray(engine.env, array, &typed) != napi_ok || !typed) return nullptr;
  napi_typedarray_type type;
  size_t count = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(engine.env, array, &type, &count, &data, nullptr, nullptr) != napi_ok) return nullptr;
  if (count * (type == napi_int32_array ? 4 : 1) < bytes) return nullptr;
  if (engine.references[slot]) napi_delete_reference(engine.env, engine.references[slot]);
  engine.references[slot] = nullptr;
  if (napi_create_reference(engine.env, array, 1, &engine.references[slot]) != napi_ok) return nullptr;
  return data;
}

/** attach(arena, columns, gather, frameMax, gatherMax, columnCount): lends the frame memory for ever. */
static napi_value attach(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  if (engine.epollFd < 0) return arguments.result(-EBADF);
  if (arguments.integer(3) != frameMax || arguments.integer(4) != gatherMax || arguments.integer(5) != columnCount)
    return arguments.result(-EINVAL);
  auto* arena = static_cast<uint8_t*>(hold(engine, 0, arguments.at(0), arenaBytes));
  auto* columns = static_cast<int32_t*>(hold(engine, 1, arguments.at(1), size_t{columnCount} * frameMax * 4));
  auto* gather = static_cast<int32_t*>(hold(engine, 2, arguments.at(2), size_t{gatherMax} * 4));
  if (!arena || !columns || !gather) return arguments.result(-EINVAL);
  engine.arena = arena;
  engine.columns = columns;
  engine.gather = gather;
  return arguments.result(0);
}

/** close(): gives back descriptors, frames and result words; later calls answer with an error. */
static napi_value close(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  closeEngine(engine);
  // The result words stay: they are small, and a late call may still write them.
  for (size_t i = 0; i < 3; i++) {
    if (engine.references[i]) napi_delete_reference(env, engine.references[i]);
    engine.references[i] = nullptr;
  }
  for (napi_ref& reference : engine.relayReferences) {
    if (reference) napi_delete_reference(env, reference);
    reference = nullptr;
  }
  return arguments.result(0);
}

/** createEngine(events, address, info, error): an object with the calls of one engine, or -errno. */
static napi_value createEngine(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Environment* environment = nullptr;
  if (napi_get_instance_data(env, reinterpret_cast<void**>(&environment)) != napi_ok || !environment)
    return arguments.result(-EINVAL);
  auto* node = new (std::nothrow) Environment::Node;
  if (!node) return arguments.result(-ENOMEM);
  node->next = environment->engines;
  environment->engines = node;

  Engine& engine = node->engine;
  engine.env = env;
  engine.events = static_cast<int32_t*>(hold(engine, 3, arguments.at(0), size_t{eventMax} * 2 * 4));
  engine.address = static_cast<int32_t*>(hold(engine, 4, arguments.at(1), size_t{addressWords} * 3 * 4));
  engine.info = static_cast<int32_t*>(hold(engine, 5, arguments.at(2), size_t{infoWords} * 4));
  engine.error = static_cast<int32_t*>(hold(engine, 6, arguments.at(3), size_t{errorWords} * 4));
  if (!engine.events || !engine.address || !engine.info || !engine.error) return arguments.result(-EINVAL);
  // Not touched until a kernel without SO_PEEK_OFF makes it necessary.
  void* block = mmap(nullptr, skipBlockBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return arguments.result(-ENOMEM);
  engine.skipBlock = static_cast<uint8_t*>(block);
  engine.epollFd = epoll_create1(EPOLL_CLOEXEC);
  if (engine.epollFd < 0) return arguments.result(-errno);
  // Every write says MSG_NOSIGNAL, but captures and logs write to pipes as well.
  signal(SIGPIPE, SIG_IGN);

  napi_value object = nullptr;
  napi_create_object(env, &object);
  define(env, object, "attach", attach, &engine);
  define(env, object, "close", close, &engine);
  bindEpoll(env, object, &engine);
  bindHostLoop(env, object, &engine);
  bindClock(env, object, &engine);
  bindSignals(env, object, &engine);
  bindSockets(env, object, &engine);
  bindStream(env, object, &engine);
  bindDatagram(env, object, &engine);
  bindGroups(env, object, &engine);
  bindErrorQueue(env, object, &engine);
  bindTcpInfo(env, object, &engine);
  bindPcap(env, object, &engine);
  bindNamespace(env, object, &engine);
  bindNetlink(env, object, &engine);
  bindSplice(env, object, &engine);
  bindRelay(env, object, &engine);
  bindSpliceDatagrams(env, object, &engine);
  bindListeners(env, object, &engine);
  bindUnixLink(env, object, &engine);
  bindTapLink(env, object, &engine);
  bindVhostLink(env, object, &engine);
  return object;
}

void registerEngine(napi_env env, napi_value exports) {
  auto* environment = new (std::nothrow) Environment;
  if (!environment) return;
  napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); }, nullptr);
  define(env, exports, "createEngine", createEngine);
}

}  // namespace passt
