/**
 * Work in another network namespace.
 *
 * A socket belongs for ever to the network namespace of the thread that creates it (network_namespaces(7)), and can
 * then be used from any thread. So one thread enters the target namespace, once, and creates there what is asked for,
 * while the main thread waits: pasta's sockets in the namespace, its tap device, its netlink sockets.
 */
#pragma once

#include <cstdint>

namespace passt {

struct Engine;

/** Where a socket is created: equal to PLACE_* in packages/core/src/kernel.ts. */
constexpr int32_t placeHost = 0;
constexpr int32_t placeNamespace = 1;

/** A piece of work for the namespace. It must neither wait long nor throw. @returns >= 0 or -errno */
using NamespaceWork = int32_t (*)(void* argument);

/** Runs `work` in the namespace that the engine has entered, and waits for it. Allocates nothing.
 * @returns what `work` returns, -ENONET when no namespace was entered */
int32_t inNamespace(Engine& engine, NamespaceWork work, void* argument);

/** Runs a lambda `int32_t()` at a place: here for placeHost, in the namespace for placeNamespace. */
template <typename Work>
int32_t atPlace(Engine& engine, int32_t place, Work work) {
  if (place == placeHost) return work();
  return inNamespace(engine, [](void* argument) -> int32_t { return (*static_cast<Work*>(argument))(); }, &work);
}

/** Ends the thread, if there is one. What it created stays open. */
void leaveNamespace(Engine& engine);

}  // namespace passt
